"""Imports kommo_conversations and kommo_messages: Kommo, with Twilio and Meta beside it since its migration.

Two documents describe this product. The first tells of the migration, so its reader takes tables from before it as
well: without `provider` everything is Kommo's. The second describes the tables as they are afterwards, all columns.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ops.imports import addresses, conversations, messages
from ops.imports.steps import Step, System, attempt, counted, identified, in_order
from ops.imports.tally import Fate
from ops.imports.target import Target
from ops.imports.values import Reader, Skip, first_time, same
from shared.database import Connection
from shared.domain.model import Address
from shared.store.imports.source import Column, Found, Source, Table

PROVIDERS: Final = ("kommo", "twilio", "meta")
STATUSES: Final = same(("active", "escalated", "closed"))

_CONVERSATIONS = Table(
    "kommo_conversations",
    (
        Column("id"),
        Column("provider"),
        Column("kommo_chat_id"),
        Column("phone"),
        Column("contact_name"),
        Column("status"),
        Column("last_message_at", "time"),
        Column("last_user_message_at", "time"),
        Column("created_at", "time"),
        Column("updated_at", "time"),
        Column("metadata", "json", needed=False),
    ),
)
_MESSAGES = Table(
    "kommo_messages",
    (
        Column("id"),
        Column("conversation_id"),
        Column("provider"),
        Column("role"),
        Column("content"),
        Column("message_type"),
        Column("metadata", "json", needed=False),
        Column("created_at", "time"),
    ),
)


def _before(table: Table, *added: str) -> Table:
    """The table as it was before the migration added these columns."""
    return replace(table, columns=tuple(replace(c, needed=False) if c.name in added else c for c in table.columns))


async def open_channels(source: Source, found: Found, into: Target) -> None:
    """One channel for each provider that the source knows."""
    assert into.tenant_id is not None, "the command names the tenant"
    named = await source.distinct(found, "provider") if "provider" in found.places else [("kommo",)]
    for provider in sorted({(one or "kommo").strip().lower() for (one,) in named} & set(PROVIDERS)):
        await into.open_channel(into.tenant_id, "whatsapp", provider=provider, only_that=True, call=provider)


async def write_conversations(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(
        connection, readers, into, table="kommo_conversations", our_table="conversations", fates=fates
    )
    read = attempt(lambda reader: conversations.complete(reader, _conversation(reader, into)), readers, fates)
    started = {index: (keys[index], one) for index, one in read.items()}
    await conversations.add_conversations(connection, started, into, fates, table="kommo_conversations")
    return in_order(fates, readers)


def _conversation(reader: Reader, into: Target) -> conversations.SourceConversation:
    provider = _provider(reader)
    chat_id = reader.id("kommo_chat_id")
    given = reader.name("phone")
    number = addresses.phone(given)
    if number is None and given is not None:
        reader.mend("number that is no phone number: left out", "phone")
    chat = Address("kommo_chat", chat_id, chat_id) if chat_id is not None and provider == "kommo" else None
    known = tuple(address for address in (number, chat) if address is not None)
    if provider == "kommo" and chat is None and number is not None:  # without its chat nothing reaches them there
        reader.originals["phone"] = number.given
        known = ()
    assert into.tenant_id is not None, "the command names the tenant"
    created_at = first_time(reader.time("created_at"), reader.time("last_message_at")) or reader.now
    last = reader.time("last_message_at") or created_at
    return conversations.SourceConversation(
        through=into.channel(into.tenant_id, provider),
        addresses=known,
        name=reader.name("contact_name"),
        metadata=reader.object("metadata"),
        created_at=created_at,
        last_message_at=last,
        updated_at=reader.time("updated_at") or last,
        status=reader.choice("status", STATUSES, "active"),
        kommo_chat_id=chat_id,
        last_user_message_at=reader.time("last_user_message_at"),
    )


def _provider(reader: Reader) -> str:
    provider = reader.word("provider") or "kommo"
    if provider not in PROVIDERS:
        raise Skip("unknown provider")
    return provider


async def write_messages(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    return await messages.write_messages(
        connection,
        readers,
        into,
        table="kommo_messages",
        whose="tenant_id",
        conversations="kommo_conversations",
        conversation_of=lambda reader: reader.id("conversation_id"),
        convert=_message,
    )


def _message(reader: Reader) -> messages.SourceMessage:
    role = reader.word("role")
    if role not in ("user", "assistant", "system"):
        raise Skip("unknown role")
    _provider(reader)
    return messages.SourceMessage(
        inbound=role == "user",
        role=role,
        message_type=reader.message_type("message_type"),
        content=reader.text("content") or "",
        metadata=reader.object("metadata"),
        created_at=reader.time("created_at"),
    )


def _steps(conversations: Table, messages: Table) -> tuple[Step, ...]:
    return (
        Step(
            conversations,
            write_conversations,
            counted("kommo_conversations", "conversations"),
            prepare=open_channels,
        ),
        Step(messages, write_messages, counted("kommo_messages", "messages")),
    )


KOMMO = System(
    identity="kommo",
    summary="Kommo, before or after its migration to Twilio (kommo_conversations, kommo_messages)",
    brings_tenants=False,
    steps=_steps(
        _before(_CONVERSATIONS, "provider", "last_user_message_at"), _before(_MESSAGES, "provider", "message_type")
    ),
)
KOMMO_TWILIO = System(
    identity="kommo",
    summary="Kommo, Twilio and Meta side by side (the same tables, after the migration)",
    brings_tenants=False,
    steps=_steps(_CONVERSATIONS, _MESSAGES),
)
