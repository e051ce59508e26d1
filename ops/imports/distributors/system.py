"""Imports the system of the Database Setup document: distributors who talk to customers by WhatsApp, SMS and e-mail.

Its tables are distributors, customers, conversations and messages. The document names the tables and what they store,
not each column; so a column may have any of the usual names. A distributor is a tenant.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from ops.imports import addresses, conversations, messages, people
from ops.imports.distributors import tables
from ops.imports.steps import Step, System, attempt, counted, identified, in_order
from ops.imports.tally import NEW, THERE, Fate
from ops.imports.target import Target
from ops.imports.values import Reader, Skip, first_time, our_id
from shared.database import Connection
from shared.domain.model import Address
from shared.store.imports import progress
from shared.store.imports.progress import Key
from shared.store.imports.rows import ContactRow, Json
from shared.store.imports.source import Found, Source

# -- distributors ------------------------------------------------------------------------------------------------------


async def write_distributors(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    ids = attempt(_distributor_id, readers, fates)
    known = await progress.existing_tenants(connection, [_tenant(into, named) for named in ids.values()])
    named = {
        ids[index]: (reader.name("name"), reader.time("created_at"), reader.imported())
        for index, reader in enumerate(readers)
        if index in ids
    }
    await into.add_tenants(connection, named)
    for index, source_id in ids.items():
        fates[index] = THERE if _tenant(into, source_id) in known else NEW
    return in_order(fates, readers)


async def count_distributors(connection: Connection, readers: Sequence[Reader], into: Target) -> int:
    ids = [_tenant(into, named) for named in attempt(_distributor_id, readers, {}).values()]
    known = await progress.existing_tenants(connection, ids)
    return sum(one in known for one in ids)


def _distributor_id(reader: Reader) -> str:
    given = reader.id("id")
    if given is None:
        raise Skip("no id")
    return given


def _tenant(into: Target, source_id: str) -> UUID:
    return our_id(into.system, "tenants", None, source_id)


async def know_distributors(source: Source, found: Found, into: Target) -> None:
    """Which distributors there are: an import that goes on has made their tenants in an earlier run."""
    named = [one for (one,) in await source.distinct(found, "id") if one is not None]
    into.tenants |= {one: _tenant(into, one) for one in named}


# -- customers ---------------------------------------------------------------------------------------------------------


async def write_customers(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    return await people.write_people(
        connection,
        readers,
        into,
        table="customers",
        whose="distributor_id",
        convert=lambda reader, key: _customer(reader, key, into),
    )


def _customer(reader: Reader, key: Key, into: Target) -> people.SourcePerson:
    own = _addresses(reader, "phone", "email")
    row = ContactRow(
        id=our_id(into.system, "customers", *key),
        tenant_id=key[0],
        name=reader.name("name"),
        is_active=reader.flag("is_active", default=True),
        created_at=reader.time("created_at") or reader.now,
        deleted_at=reader.time("deleted_at"),
        metadata=reader.imported(),
    )
    return people.SourcePerson(row, own)


def _addresses(reader: Reader, phone: str, email: str) -> tuple[Address, ...]:
    number, mail = addresses.phone(reader.name(phone)), addresses.email(reader.name(email))
    if number is None and reader.name(phone) is not None:
        reader.mend("number that is no phone number: left out", phone)
    if mail is None and reader.name(email) is not None:
        reader.mend("e-mail address that is none: left out", email)
    return tuple(address for address in (number, mail) if address is not None)


# -- conversations -----------------------------------------------------------------------------------------------------


async def open_channels(source: Source, found: Found, into: Target) -> None:
    """A channel for each way in which a distributor talks."""
    for their_id, channel in sorted(await source.distinct(found, "distributor_id", "channel"), key=str):
        tenant_id = into.tenants.get(their_id or "")
        kind = (channel or "whatsapp").strip().lower()
        if tenant_id is not None and kind in tables.KINDS:
            await into.open_channel(tenant_id, kind, provider=tables.KINDS[kind], only_that=False, call=kind)


async def write_conversations(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(
        connection,
        readers,
        into,
        table="conversations",
        our_table="conversations",
        whose="distributor_id",
        fates=fates,
    )
    read = attempt(lambda reader: conversations.complete(reader, _conversation(reader, into)), readers, fates)
    # A customer without an address is imported all the same.
    asked = {
        index: (keys[index][0], their_id)
        for index, one in read.items()
        if not one.addresses and (their_id := readers[index].id("customer_id"))
    }
    customers = await into.ours(connection, "customers", "contacts", asked.values())
    started = {
        index: (keys[index], replace(one, contact_id=customers.get(asked[index])) if index in asked else one)
        for index, one in read.items()
    }
    await conversations.add_conversations(connection, started, into, fates, table="conversations")
    return in_order(fates, readers)


def _conversation(reader: Reader, into: Target) -> conversations.SourceConversation:
    kind = reader.word("channel") or "whatsapp"
    if kind not in tables.KINDS:
        raise Skip("unknown channel")
    column = "customer_email" if kind == "email" else "customer_phone"
    address = addresses.email(reader.name(column)) if kind == "email" else addresses.phone(reader.name(column))
    if address is None:
        reader.mend("its customer has no address there: left out", column)
    created_at = first_time(reader.time("created_at"), reader.time("last_message_at")) or reader.now
    last = reader.time("last_message_at") or created_at
    return conversations.SourceConversation(
        through=into.channel(into.tenant_of(reader, "distributor_id"), kind),
        addresses=() if address is None else (address,),
        name=reader.name("customer_name"),
        metadata=reader.object("metadata"),
        created_at=created_at,
        last_message_at=last,
        updated_at=reader.time("updated_at") or last,
        status=reader.choice("status", tables.STATUSES, "active"),
        unread_count=reader.number("unread_count"),
        ai_context_summary=reader.text("ai_context_summary"),
        deleted_at=reader.time("deleted_at"),
        last_user_message_at=reader.time("last_user_message_at"),
    )


# -- messages ----------------------------------------------------------------------------------------------------------


async def write_messages(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    return await messages.write_messages(
        connection,
        readers,
        into,
        table="messages",
        whose="distributor_id",
        conversations="conversations",
        conversation_of=lambda reader: reader.id("conversation_id"),
        convert=_message,
    )


def _message(reader: Reader) -> messages.SourceMessage:
    inbound = messages.direction(reader, "direction")
    ai_status = reader.choice("ai_processing_status", tables.AI_STATUSES, "") or None
    ai_metadata: Json | None = reader.json("ai_metadata")
    return messages.SourceMessage(
        inbound=inbound,
        role="system" if reader.word("direction") == "system" else None,
        message_type=reader.message_type("message_type"),
        content=reader.text("content") or "",
        metadata=reader.object("metadata"),
        created_at=reader.time("created_at"),
        external_id=reader.external_id("external_message_id"),
        status=reader.choice("status", tables.WAS_SENT, "sent"),
        error_message=reader.text("error_message"),
        ai_processing_status=ai_status,
        ai_processed_at=reader.time("ai_processed_at"),
        ai_metadata=ai_metadata,
    )


DISTRIBUTORS = System(
    identity="distributors",
    summary="distributors and their customers (conversations, messages, customers, distributors)",
    brings_tenants=True,
    steps=(
        Step(tables.DISTRIBUTORS, write_distributors, count_distributors, prepare=know_distributors),
        Step(
            tables.CUSTOMERS, write_customers, counted("customers", "contacts", "distributor_id"), ("distributor_id",)
        ),
        Step(
            tables.CONVERSATIONS,
            write_conversations,
            counted("conversations", "conversations", "distributor_id"),
            ("distributor_id",),
            prepare=open_channels,
        ),
        Step(
            tables.MESSAGES,
            write_messages,
            counted("messages", "messages", "distributor_id"),
            ("distributor_id", "conversation_id"),
        ),
    ),
)
