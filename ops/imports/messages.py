"""Imports messages of any system into the conversations that were imported before.

A message that was sent elsewhere is a record: nothing imported here is ever due.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from ops.imports import consents, provider_ids
from ops.imports.attachments import attachments
from ops.imports.steps import attempt, identified, in_order, store
from ops.imports.tally import THERE, Fate
from ops.imports.target import Target
from ops.imports.values import NO_TIME, Reader, Skip, first_time, our_id
from shared.database import Connection
from shared.store.imports import joins, progress
from shared.store.imports.joins import External, ImportTarget, Message
from shared.store.imports.progress import Key
from shared.store.imports.rows import Json, MessageRow

NEVER_SENT: Final = "imported"  # error code of what was still to be sent when it was imported

INBOUND: Final = frozenset(
    ("inbound", "incoming", "in", "received", "customer", "client", "user", "contact", "true", "t", "1", "yes")
)
OUTBOUND: Final = frozenset(
    (
        "outbound", "outgoing", "out", "sent", "distributor", "business", "staff", "agent", "operator", "assistant",
        "ai", "bot", "system", "false", "f", "0", "no",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message that a source knows. `status` is the source's word for what became of one that was sent."""

    inbound: bool
    message_type: str
    content: str
    metadata: Json
    created_at: datetime | None  # None: unknown
    external_id: str | None = None
    role: str | None = None
    status: str = "sent"
    error_message: str | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    ai_processing_status: str | None = None
    ai_processed_at: datetime | None = None
    ai_metadata: Json | None = None


def direction(reader: Reader, column: str) -> bool:
    """Whether a customer wrote it. Raises Skip for a word that says neither."""
    word = reader.word(column)
    if word not in INBOUND and word not in OUTBOUND:
        raise Skip("neither from nor to a customer")
    return word in INBOUND


async def write_messages(
    connection: Connection,
    readers: Sequence[Reader],
    into: Target,
    *,
    table: str,
    whose: str,
    conversations: str,
    conversation_of: Callable[[Reader], str | None],
    convert: Callable[[Reader], SourceMessage],
) -> list[Fate]:
    """Messages by the source's ids, in the conversations that the source's table `conversations` became."""
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table=table, our_table="messages", whose=whose, fates=fates)
    talks = await _talks(connection, readers, keys, into, fates, conversations, conversation_of)
    said = attempt(convert, readers, fates)
    ids = {index: our_id(into.system, table, *keys[index]) for index in said}
    claims = {index: _claim(ids[index], talks[index], one) for index, one in said.items() if one.external_id}
    for index in await provider_ids.of_others(connection, claims):
        said[index] = _without_id(said[index], readers[index])
    rows = {index: _message(ids[index], talks[index], one, readers[index]) for index, one in said.items()}
    known = await _known(connection, list(rows.values()))
    fresh = {index: row for index, row in rows.items() if row.id not in known}
    numbered = await _numbered(connection, fresh)
    joined = {keys[index]: known[row.id] for index, row in rows.items() if row.id in known}
    await progress.add_aliases(connection, into.system, table, joined)
    fates |= {index: THERE for index, row in rows.items() if row.id in known}
    new = await store(
        connection,
        {index: (keys[index], row) for index, row in numbered.items()},
        into,
        fates,
        table=table,
        join=_known,
    )
    stored = [row for row in numbered.values() if row.id in new]
    await _settle(connection, stored)
    await consents.keep(connection, stored)
    return in_order(fates, readers)


async def _talks(
    connection: Connection,
    readers: Sequence[Reader],
    keys: dict[int, Key],
    into: Target,
    fates: dict[int, Fate],
    conversations: str,
    conversation_of: Callable[[Reader], str | None],
) -> dict[int, ImportTarget]:
    """Index → the conversation of ours that a message is in, locked."""
    asked = {
        index: (keys[index][0], conversation_id)
        for index in keys
        if (conversation_id := conversation_of(readers[index])) is not None
    }
    ours = await into.ours(connection, conversations, "conversations", asked.values())
    locked = await joins.lock_conversations(connection, {(key[0], ours[key]) for key in asked.values() if key in ours})
    talks = {
        index: locked[key[0], ours[key]]
        for index, key in asked.items()
        if key in ours and (key[0], ours[key]) in locked
    }
    missing = Fate(is_new=False, skipped="its conversation is missing, or was skipped")
    fates |= {index: missing for index in keys if index not in talks}
    return talks


def _message(own_id: UUID, talk: ImportTarget, said: SourceMessage, reader: Reader) -> MessageRow:
    if said.created_at is None:
        reader.mended.add("no time that can be: at its conversation's beginning")
    created_at = said.created_at or talk.created_at
    # The customer's window opens by when they wrote; not knowing it opens none.
    received_at = (said.created_at or NO_TIME) if said.inbound else None
    status, error_code = ("received", None) if said.inbound else _outcome(said.status)
    reached = status in ("sent", "delivered", "read") and not said.inbound
    return MessageRow(
        id=own_id,
        tenant_id=talk.tenant_id,
        conversation_id=talk.id,
        channel_id=talk.channel_id,
        provider=talk.provider,
        direction="inbound" if said.inbound else "outbound",
        role="user" if said.inbound else said.role or "assistant",
        message_type=said.message_type,
        content=said.content,
        media=_media(said, reader),
        metadata=reader.imported(said.metadata),
        external_id=said.external_id,
        provider_timestamp=received_at,
        received_at=received_at,
        status=status,
        out_seq=None,
        error_code=error_code,
        error_message=None if said.inbound else said.error_message,
        sent_at=first_time(said.sent_at, created_at) if reached else None,
        delivered_at=said.delivered_at if reached else None,
        read_at=said.read_at if reached else None,
        failed_at=created_at if status == "failed" else None,
        ai_processing_status=said.ai_processing_status,
        ai_processed_at=said.ai_processed_at,
        ai_metadata=said.ai_metadata,
        created_at=created_at,
    )


def _media(said: SourceMessage, reader: Reader) -> Json:
    """The files that the row names, in columns of any name or in its metadata."""
    metadata = orjson.loads(said.metadata)
    return Json(orjson.dumps(attachments(reader.rest(), metadata)).decode())


def _outcome(status: str) -> tuple[str, str | None]:
    """Our status and error code of one that was sent, or was to be."""
    if status in ("sent", "delivered", "read"):
        return status, None
    return ("failed", "failed_before_import") if status == "failed" else ("failed", NEVER_SENT)


async def _known(connection: Connection, rows: Sequence[MessageRow]) -> dict[UUID, UUID]:
    """Of rows whose provider's id is a message of ours already: their id → ours."""
    asked = {row.id: (row.tenant_id, row.channel_id, row.external_id) for row in rows if row.external_id is not None}
    found = await joins.by_external_id(connection, set(asked.values()))
    return {own_id: found[key].id for own_id, key in asked.items() if key in found}


def _claim(own_id: UUID, talk: ImportTarget, said: SourceMessage) -> tuple[External, Message]:
    direction = "inbound" if said.inbound else "outbound"
    return (talk.tenant_id, talk.channel_id, said.external_id or ""), Message(own_id, talk.id, direction, said.content)


def _without_id(said: SourceMessage, reader: Reader) -> SourceMessage:
    """With the id of another message in `metadata.imported` alone."""
    reader.mended.add("provider's id is another message's: left out")
    reader.originals["external_id"] = said.external_id or ""
    return replace(said, external_id=None)


async def _numbered(connection: Connection, rows: dict[int, MessageRow]) -> dict[int, MessageRow]:
    """With a place in its conversation for each that was sent, in the order of their times."""
    sent = sorted((i for i, row in rows.items() if row.direction == "outbound"), key=lambda i: rows[i].created_at)
    wanted = Counter((rows[index].tenant_id, rows[index].conversation_id) for index in sent)
    places = await joins.take_places(connection, dict(wanted))
    numbered = dict(rows)
    for index in sent:
        conversation_id = rows[index].conversation_id
        numbered[index] = replace(rows[index], out_seq=places[conversation_id])
        places[conversation_id] += 1
    return numbered


async def _settle(connection: Connection, new: Sequence[MessageRow]) -> None:
    totals: dict[tuple[UUID, UUID], tuple[int, datetime]] = {}
    for row in new:
        inbound, newest = totals.get((row.tenant_id, row.conversation_id), (0, NO_TIME))
        totals[row.tenant_id, row.conversation_id] = (
            inbound + (row.direction == "inbound"),
            max(newest, row.created_at),
        )
    await joins.settle(connection, totals)
