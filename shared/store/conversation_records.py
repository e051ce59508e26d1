"""conversations: reads and lists them, and writes what a tenant may change, as the management API shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.domain.conversation_status import Status
from shared.domain.model import ChannelKind, ConsentScope
from shared.store.by_key import only_if
from shared.store.consents import STOPPED_BY
from shared.store.newest_first import id_or_last, time_or

MOST_READ: Final = 1000  # conversations that one page reads in search of those that its filters want


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """A row of `conversations`."""

    id: UUID
    tenant_id: UUID
    channel_id: UUID
    contact_id: UUID | None
    provider: str
    recipient: str
    phone: str | None
    contact_name: str | None
    kommo_chat_id: str | None
    status: Status
    assigned_to: str | None
    unread_count: int
    last_message_at: datetime
    last_user_message_at: datetime | None
    ai_context_summary: str | None
    metadata: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


_COLUMNS: Final = (
    "id, tenant_id, channel_id, contact_id, provider, recipient, phone, contact_name, kommo_chat_id, status, "
    "assigned_to, unread_count, last_message_at, last_user_message_at, ai_context_summary, metadata, created_at, "
    "updated_at"
)
_GET = f"SELECT {_COLUMNS} FROM conversations WHERE tenant_id = $1 AND id = $2 AND {only_if('deleted_at IS NULL')}"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_SET_STATUS = f"""
UPDATE conversations SET status = $3, reply_due_at = NULL, reply_wanted_since = NULL, reply_lease_id = NULL,
    reply_lease_until = NULL
WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_MARK_READ = f"UPDATE conversations SET unread_count = 0 WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}"
_ASSIGN = f"UPDATE conversations SET assigned_to = $3 WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}"


def _newest(which: str) -> str:
    """Newest first, behind a position. The first condition on the time is the index's, the second one orders those of
    one moment."""
    return f"""
SELECT * FROM conversations
WHERE tenant_id = $1 AND deleted_at IS NULL AND {which} AND last_message_at <= {time_or("infinity", 2)}
    AND (last_message_at, id)
        < ({time_or("infinity", 2)}, {id_or_last(3)})
    AND last_message_at >= {time_or("-infinity", 4)}
ORDER BY last_message_at DESC, id DESC
"""


_ALL: Final = _newest("true")
_OF_STATUS: Final = _newest("status <> 'active' AND status = $5")  # has an index of its own
_PAGE = f"""
SELECT {_COLUMNS} FROM ({_ALL} LIMIT {MOST_READ}) AS newest
WHERE ($5::text IS NULL OR status = $5) AND ($6::text IS NULL OR provider = $6)
    AND ($7::uuid IS NULL OR channel_id = $7)
ORDER BY last_message_at DESC, id DESC LIMIT $8
"""
_PAGE_OF_STATUS = f"""
SELECT {_COLUMNS} FROM ({_OF_STATUS} LIMIT {MOST_READ}) AS newest
WHERE ($6::text IS NULL OR provider = $6) AND ($7::uuid IS NULL OR channel_id = $7)
ORDER BY last_message_at DESC, id DESC LIMIT $8
"""
# A customer has one conversation on each channel, so that these are few.
_OF_PHONE = f"""
SELECT {_COLUMNS} FROM conversations
WHERE tenant_id = $1 AND provider = $5 AND phone = $9 AND deleted_at IS NULL
    AND (last_message_at, id)
        < (coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
    AND last_message_at >= coalesce($4, '-infinity'::timestamptz)
    AND ($6::uuid IS NULL OR channel_id = $6) AND ($7::text IS NULL OR status = $7)
ORDER BY last_message_at DESC, id DESC LIMIT $8
"""
_PAGE_NEEDING_TEMPLATES = f"""
SELECT {_COLUMNS} FROM ({_ALL} LIMIT {MOST_READ}) AS newest
WHERE provider = $5 AND status = 'active' AND NOT is_within_24_hour_window(last_user_message_at) AND EXISTS (
    SELECT FROM channels via
    WHERE via.tenant_id = newest.tenant_id AND via.id = newest.channel_id AND via.kind = 'whatsapp')
ORDER BY last_message_at DESC, id DESC LIMIT $6
"""
_READ_UP_TO = f"SELECT last_message_at, id FROM ({_ALL} OFFSET {MOST_READ - 1} LIMIT 1) AS last"
_READ_UP_TO_OF_STATUS = f"SELECT last_message_at, id FROM ({_OF_STATUS} OFFSET {MOST_READ - 1} LIMIT 1) AS last"

# All that decides on a message to be queued, with the lock under which messages get their places.
_LOCK_TO_SEND = f"""
SELECT c.channel_id, c.provider, via.kind, via.deleted_at IS NOT NULL AS channel_deleted,
    coalesce(person.deleted_at IS NOT NULL, false) AS contact_deleted, {STOPPED_BY} AS stopped_by
FROM conversations c
JOIN channels via ON via.tenant_id = c.tenant_id AND via.id = c.channel_id
LEFT JOIN contacts person ON person.tenant_id = c.tenant_id AND person.id = c.contact_id
CROSS JOIN LATERAL (
    SELECT c.tenant_id, c.id AS conversation_id, 'normal' AS lane, NULL::jsonb AS sent_as, NULL::jsonb AS template
) AS m
WHERE c.tenant_id = $1 AND c.id = $2 AND {only_if("c.deleted_at IS NULL")}
FOR NO KEY UPDATE OF c
"""

Position = tuple[datetime, UUID]
"""Where a page ended: last_message_at and id of its last conversation."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conversations a list shows; None: any."""

    provider: str | None = None
    channel_id: UUID | None = None
    status: str | None = None
    since: datetime | None = None  # of the last message, inclusive
    until: datetime | None = None  # exclusive
    phone: str | None = None  # in E.164; together with the provider


async def get(
    connection: Connection, tenant_id: UUID, conversation_id: UUID, *, lock: bool = False
) -> ConversationRecord | None:
    """The conversation; None where there is none, or a deleted one. With `lock` its row is locked until the transaction
    ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, conversation_id)
    return None if row is None else ConversationRecord(**row)


async def set_status(
    connection: Connection, tenant_id: UUID, conversation_id: UUID, status: Status
) -> ConversationRecord:
    """Set the status of a conversation that is there. No answer of an engine is owed in it any more,
    and one that an engine is making has lost its lease: it is dropped."""
    return _record(await connection.fetchrow(_SET_STATUS, tenant_id, conversation_id, status))


async def mark_read(connection: Connection, tenant_id: UUID, conversation_id: UUID) -> ConversationRecord:
    """Count no message of a conversation that is there as unread."""
    return _record(await connection.fetchrow(_MARK_READ, tenant_id, conversation_id))


async def assign(connection: Connection, tenant_id: UUID, conversation_id: UUID, to: str | None) -> ConversationRecord:
    """Assign a conversation that is there to a person of the tenant's, or with None to no one."""
    return _record(await connection.fetchrow(_ASSIGN, tenant_id, conversation_id, to))


def _record(row: asyncpg.Record | None) -> ConversationRecord:
    assert row is not None, "the statement returns the row that it wrote"
    return ConversationRecord(**row)


async def page(
    connection: Connection, tenant_id: UUID, wanted: Wanted, after: Position | None, limit: int
) -> tuple[list[ConversationRecord], Position | None]:
    """Conversations, that with the newest message first, behind the position `after`.

    A page reads at most MOST_READ conversations, so that one costs the same however few the filters want. Where they
    end a page before its limit, the second value is the position behind the last one that was read; else it is None.
    """
    last_message_at, last_id = after or (None, None)
    if wanted.until is not None and (last_message_at is None or wanted.until <= last_message_at):
        last_message_at, last_id = wanted.until, UUID(int=0)  # before all of that moment
    begin = (tenant_id, last_message_at, last_id, wanted.since)
    if wanted.phone is not None:
        of_phone = (wanted.provider, wanted.channel_id, wanted.status, limit, wanted.phone)
        return [ConversationRecord(**row) for row in await connection.fetch(_OF_PHONE, *begin, *of_phone)], None
    filters = (wanted.status, wanted.provider, wanted.channel_id)
    if wanted.status is None or wanted.status == "active":
        found = await _fetch(connection, _PAGE, *begin, *filters, limit)
        if len(found) == limit or not any(filters):
            return found, None
        return found, await _end(connection, _READ_UP_TO, *begin)
    found = await _fetch(connection, _PAGE_OF_STATUS, *begin, *filters, limit)
    if len(found) == limit or not any(filters[1:]):
        return found, None
    return found, await _end(connection, _READ_UP_TO_OF_STATUS, *begin, wanted.status)


async def page_needing_templates(
    connection: Connection, tenant_id: UUID, provider: str, after: Position | None, limit: int
) -> tuple[list[ConversationRecord], Position | None]:
    """As `page`, of active conversations on WhatsApp whose 24-hour window is closed: only a template reaches them."""
    begin = (tenant_id, *(after or (None, None)), None)
    found = await _fetch(connection, _PAGE_NEEDING_TEMPLATES, *begin, provider, limit)
    return found, None if len(found) == limit else await _end(connection, _READ_UP_TO, *begin)


async def _fetch(connection: Connection, statement: str, *given: object) -> list[ConversationRecord]:
    return [ConversationRecord(**row) for row in await connection.fetch(statement, *given)]


async def _end(connection: Connection, statement: str, *given: object) -> Position | None:
    row = await connection.fetchrow(statement, *given)
    return None if row is None else (row["last_message_at"], row["id"])


@dataclass(frozen=True, slots=True)
class Recipient:
    """A locked conversation that a message is to be queued to."""

    channel_id: UUID
    provider: str
    kind: ChannelKind
    channel_deleted: bool
    contact_deleted: bool
    stopped_by: ConsentScope | None  # the opt-out that keeps an answer from leaving


async def lock_to_send(connection: Connection, tenant_id: UUID, conversation_id: UUID) -> Recipient | None:
    """Lock the conversation until the transaction ends; None where there is none, or a deleted one."""
    row = await connection.fetchrow(_LOCK_TO_SEND, tenant_id, conversation_id)
    return None if row is None else Recipient(**row)
