"""Imports whatsapp_settings, whatsapp_sessions, whatsapp_messages: a shop's WhatsApp module on Meta's Cloud API.

A row of settings is a channel; its secrets are sealed on the way in. A session is a bot's place in its talk with a
person: here a session and the conversation it belongs to, both by the session's id.
"""

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import orjson

from ops.errors import Problem
from ops.imports import addresses, conversations, messages
from ops.imports.steps import Step, System, attempt, counted, identified, in_order, store
from ops.imports.tally import THERE, Fate
from ops.imports.target import SILENT, STAND_IN, Target, Through
from ops.imports.values import Reader, Skip, first_time, our_id
from shared.database import Connection
from shared.store import channels
from shared.store.imports import joins, progress
from shared.store.imports.progress import Key
from shared.store.imports.rows import ChannelRow, Json, SessionRow
from shared.store.imports.source import Column, Found, Source, Table

PROVIDER: Final = "meta"
CALL: Final = "sessions"
TALKS: Final = "conversations of whatsapp_sessions"
_STATE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_SECRETS: Final = ("api_key", "access_token", "webhook_token")

_SETTINGS = Table(
    "whatsapp_settings",
    (
        Column("id"),
        *(Column(name) for name in (*_SECRETS, "phone_number_id", "business_id", "webhook_url")),
        Column("is_active"),
        Column("last_updated_at", "time"),
        Column("created_at", "time"),
    ),
    also=("WhatsAppSettings", "WhatsAppSetting"),
)
_SESSIONS = Table(
    "whatsapp_sessions",
    (
        Column("id"),
        Column("phone_number"),
        Column("customer_profile_id"),
        Column("state"),
        Column("context_data", "json"),
        Column("last_message_at", "time"),
        Column("created_at", "time"),
        Column("updated_at", "time"),
    ),
    also=("WhatsAppSession",),
)
_MESSAGES = Table(
    "whatsapp_messages",
    (
        Column("id"),
        Column("session_id"),
        Column("message_id"),
        Column("direction"),
        Column("content"),
        Column("message_type"),
        Column("metadata", "json"),
        Column("created_at", "time"),
    ),
    also=("WhatsAppMessage",),
)


def _tenant(into: Target) -> UUID:
    assert into.tenant_id is not None, "the command names the tenant"
    return into.tenant_id


# -- settings: channels ------------------------------------------------------------------------------------------------


async def write_settings(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="whatsapp_settings", our_table="channels", fates=fates)
    read = attempt(lambda reader: _channel(reader, into), readers, fates)
    rows = {index: (keys[index], row) for index, row in read.items()}
    await store(connection, rows, into, fates, table="whatsapp_settings", join=_same_channels)
    return in_order(fates, readers)


def _channel(reader: Reader, into: Target) -> ChannelRow:
    tenant_id, source_id = into.key(reader, _tenant(into))
    channel_id = our_id(into.system, "whatsapp_settings", tenant_id, source_id)
    address = reader.name("phone_number_id")
    if address is None:
        raise Skip("settings without phone number id")
    opened: dict[str, object] = {name: value for name in _SECRETS if (value := reader.text(name)) is not None}
    if rest := reader.rest(secrets=True):  # of which any may be one
        opened["imported"] = rest
    active = reader.flag("is_active", default=True)
    return ChannelRow(
        id=channel_id,
        tenant_id=tenant_id,
        provider=PROVIDER,
        kind="whatsapp",
        name=f"imported from {into.system}",
        address=address,
        credentials=into.keys.seal(orjson.dumps(opened).decode(), tenant_id=tenant_id, owner=channel_id),
        settings=SILENT,
        status="active" if active else "stopped",
        status_reason=None if active else "not active in the system it was imported from",
        created_at=reader.time("created_at") or reader.now,
        business_id=reader.name("business_id"),
        webhook_url=reader.text("webhook_url"),
    )


async def _same_channels(connection: Connection, rows: Sequence[ChannelRow]) -> dict[UUID, UUID]:
    found = {row.id: await joins.channel_at(connection, row) for row in rows}
    return {own_id: channel_id for own_id, channel_id in found.items() if channel_id is not None}


async def open_channel(source: Source, found: Found, into: Target) -> None:
    """The channel that all sessions belong to: the source does not say which, so it must be the only one in use."""
    tenant_id = _tenant(into)
    if into.chosen:
        chosen = into.chosen[0]
        into.set_channel(tenant_id, CALL, Through(chosen.id, chosen.provider))
        return
    every = [
        c
        for c in await channels.listed(into.pool)
        if (c.tenant_id, c.provider, c.kind) == (tenant_id, PROVIDER, "whatsapp")
    ]
    real = [c for c in every if not c.address.startswith(STAND_IN)] or every
    fitting = [c for c in real if c.status == "active"] or real
    if len(fitting) > 1:
        names = ", ".join(f"{channel.id} ({channel.address})" for channel in fitting)
        raise Problem(
            f"{fitting[0].tenant} has {len(fitting)} {PROVIDER} channels, and sessions don't say which is theirs.",
            f"Name one with --channel: {names}.",
        )
    if fitting:
        into.set_channel(tenant_id, CALL, Through(fitting[0].id, PROVIDER))
    else:
        await into.open_channel(tenant_id, "whatsapp", provider=PROVIDER, only_that=True, call=CALL)


# -- sessions ----------------------------------------------------------------------------------------------------------


async def write_sessions(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="whatsapp_sessions", our_table="sessions", fates=fates)
    read = attempt(lambda reader: conversations.complete(reader, _conversation(reader, into)), readers, fates)
    started = {index: (keys[index], one) for index, one in read.items()}
    of_talk: dict[int, Fate] = {}
    people = await conversations.add_conversations(connection, started, into, of_talk, table=TALKS)
    ids = await into.ours(connection, TALKS, "conversations", [key for key, _ in started.values()])
    rows = {
        index: (key, _session(readers[index], key, ids[key], one, people[index], into))
        for index, (key, one) in started.items()
        if key in ids
    }
    fates |= {index: of_talk[index] for index in started if index not in rows}
    # A person whose number was written in two ways had two sessions: here they have one, as they have one conversation.
    talks = {(row.tenant_id, row.conversation_id) for _, row in rows.values()}
    first = await joins.sessions_of(connection, talks)
    joined: dict[Key, UUID] = {}
    for index, (key, row) in list(rows.items()):
        session_id = first.setdefault(row.conversation_id, row.id)
        if session_id != row.id:
            joined[key] = session_id
            fates[index] = THERE
            del rows[index]
    await store(connection, rows, into, fates, table="whatsapp_sessions", join=joins.same_sessions)
    await progress.add_aliases(connection, into.system, "whatsapp_sessions", joined)
    return in_order(fates, readers)


def _conversation(reader: Reader, into: Target) -> conversations.SourceConversation:
    number = addresses.phone(reader.name("phone_number"))
    if number is None:
        reader.mend("number that is no phone number: left out", "phone_number")
    created_at = first_time(reader.time("created_at"), reader.time("last_message_at")) or reader.now
    last = reader.time("last_message_at") or created_at
    profile = reader.id("customer_profile_id")
    return conversations.SourceConversation(
        through=into.channel(_tenant(into), CALL),
        addresses=() if number is None else (number,),
        name=None,
        metadata=Json(orjson.dumps({"customer_profile_id": profile} if profile else {}).decode()),
        created_at=created_at,
        last_message_at=last,
        updated_at=reader.time("updated_at") or last,
    )


def _session(
    reader: Reader,
    key: Key,
    conversation_id: UUID,
    one: conversations.SourceConversation,
    contact_id: UUID | None,
    into: Target,
) -> SessionRow:
    state = (reader.name("state") or "IDLE").upper()
    if not _STATE.fullmatch(state):
        reader.mended.add("a state that is no word: IDLE")
        state = "IDLE"
    return SessionRow(
        id=our_id(into.system, "whatsapp_sessions", *key),
        tenant_id=key[0],
        channel_id=one.through.id,
        conversation_id=conversation_id,
        contact_id=contact_id,
        phone_number=one.addresses[0].given if one.addresses else reader.name("phone_number") or f"imported {key[1]}",
        state=state,
        context_data=reader.json("context_data"),
        last_message_at=one.last_message_at,
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


# -- messages ----------------------------------------------------------------------------------------------------------


async def write_messages(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    return await messages.write_messages(
        connection,
        readers,
        into,
        table="whatsapp_messages",
        whose="tenant_id",
        conversations=TALKS,
        conversation_of=lambda reader: reader.id("session_id"),
        convert=_message,
    )


def _message(reader: Reader) -> messages.SourceMessage:
    return messages.SourceMessage(
        inbound=messages.direction(reader, "direction"),
        message_type=reader.message_type("message_type"),
        content=reader.text("content") or "",
        metadata=reader.object("metadata"),
        created_at=reader.time("created_at"),
        external_id=reader.external_id("message_id"),
    )


WHATSAPP_MODULE = System(
    identity="whatsapp-module",
    summary="a WhatsApp module on Meta's Cloud API (whatsapp_settings, whatsapp_sessions, whatsapp_messages)",
    brings_tenants=False,
    steps=(
        Step(_SETTINGS, write_settings, counted("whatsapp_settings", "channels")),
        Step(_SESSIONS, write_sessions, counted("whatsapp_sessions", "sessions"), prepare=open_channel),
        Step(_MESSAGES, write_messages, counted("whatsapp_messages", "messages")),
    ),
)
