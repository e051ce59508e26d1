"""messages of all of a tenant's conversations: finds and lists them, newest first, as `messages_history` names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection

MOST_READ: Final = 2000  # messages that one page reads in search of those that its filters want
MOST_BYTES: Final = 2 * 1024**2  # of a page's texts and metadata; a page holds one message however large it is


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """A message with its conversation's contact and address."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    contact_id: UUID | None
    provider: str
    external_id: str | None
    chat_id: str
    direction: str
    message_type: str
    content: str
    metadata: Mapping[str, Any]
    status: str
    error_code: str | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    created_at: datetime


_FIELDS: Final = tuple(field.name for field in fields(HistoryRecord))
_COLUMNS: Final = """
m.id, m.tenant_id, m.conversation_id, m.channel_id, c.contact_id, m.provider, m.external_id,
coalesce(c.kommo_chat_id, c.recipient) AS chat_id, m.direction, m.message_type, m.content, m.metadata, m.status,
m.error_code, m.sent_at, m.delivered_at, m.read_at, m.created_at
"""
_GET = f"""
SELECT {_COLUMNS} FROM messages m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
WHERE m.tenant_id = $1 AND m.id = $2
"""
_BEHIND: Final = """created_at BETWEEN coalesce($4, '-infinity'::timestamptz) AND coalesce($2, 'infinity'::timestamptz)
    AND (created_at, id)
        < (coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))"""
_FILTERS: Final = """
($5::uuid IS NULL OR m.channel_id = $5) AND ($6::text IS NULL OR m.direction = $6)
    AND ($7::text IS NULL OR m.status = $7) AND ($8::text IS NULL OR m.content ILIKE $8)
"""
_NEWEST: Final = f"""
SELECT * FROM messages WHERE tenant_id = $1 AND direction <> '' AND {_BEHIND} ORDER BY created_at DESC, id DESC
"""


def _within_bytes(statement: str) -> str:
    """The rows of a statement until they hold MOST_BYTES, each with the count `in_all` of those there would be."""
    return f"""
SELECT * FROM (
    SELECT found.*, row_number() OVER newest AS place, count(*) OVER () AS in_all,
        sum(octet_length(content) + octet_length(metadata::text)) OVER newest AS bytes
    FROM ({statement}) AS found WINDOW newest AS (ORDER BY created_at DESC, id DESC)
) AS numbered
WHERE bytes <= {MOST_BYTES} OR place = 1 ORDER BY place
"""


_PAGE = _within_bytes(f"""
SELECT {_COLUMNS} FROM (
    SELECT * FROM ({_NEWEST} LIMIT {MOST_READ}) AS m WHERE {_FILTERS} ORDER BY created_at DESC, id DESC LIMIT $9
) AS m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
ORDER BY m.created_at DESC, m.id DESC
""")
_READ_UP_TO = f"SELECT created_at, id FROM ({_NEWEST} OFFSET {MOST_READ - 1} LIMIT 1) AS last"

# A contact has few conversations; of each the page's number of messages, by its index. See records._OF_CONVERSATION.
_OF_CONTACT = _within_bytes(f"""
SELECT {_COLUMNS} FROM conversations c CROSS JOIN LATERAL (
    SELECT * FROM messages AS m
    WHERE tenant_id = c.tenant_id AND conversation_id = c.id AND {_BEHIND} AND {_FILTERS}
    ORDER BY created_at DESC FETCH FIRST ($9) ROWS WITH TIES
) AS m
WHERE c.tenant_id = $1 AND c.contact_id = $10
ORDER BY m.created_at DESC, m.id DESC LIMIT $9
""")

Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last message."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages a list shows; None: any."""

    contact_id: UUID | None = None
    channel_id: UUID | None = None
    direction: str | None = None
    status: str | None = None
    text: str | None = None  # within the content, whatever its case
    since: datetime | None = None  # inclusive
    until: datetime | None = None  # exclusive


async def get(connection: Connection, tenant_id: UUID, message_id: UUID) -> HistoryRecord | None:
    """The message; None where there is none."""
    row = await connection.fetchrow(_GET, tenant_id, message_id)
    return None if row is None else HistoryRecord(**row)


async def page(
    connection: Connection, tenant_id: UUID, wanted: Wanted, after: Position | None, limit: int
) -> tuple[Sequence[HistoryRecord], Position | None]:
    """Messages, newest first, behind the position `after`.

    A page reads at most MOST_READ messages, or those of one contact, so that one costs the same however few the filters
    want; and it holds at most MOST_BYTES. Where either ends a page before its limit, the second value is the position
    behind the last one that was read; else it is None.
    """
    created_at, last_id = after or (None, None)
    if wanted.until is not None and (created_at is None or wanted.until <= created_at):
        created_at, last_id = wanted.until, UUID(int=0)  # before all of that moment
    begin = (tenant_id, created_at, last_id, wanted.since)
    filters = (wanted.channel_id, wanted.direction, wanted.status, None if wanted.text is None else _like(wanted.text))
    if wanted.contact_id is not None:
        rows = await connection.fetch(_OF_CONTACT, *begin, *filters, limit, wanted.contact_id)
    else:
        rows = await connection.fetch(_PAGE, *begin, *filters, limit)
    found = [HistoryRecord(**{name: row[name] for name in _FIELDS}) for row in rows]
    if rows and len(rows) < rows[0]["in_all"]:  # their bytes ended the page
        return found, (found[-1].created_at, found[-1].id)
    if len(found) == limit or wanted.contact_id is not None:
        return found, None
    end = await connection.fetchrow(_READ_UP_TO, *begin)
    return found, None if end is None else (end["created_at"], end["id"])


def _like(text: str) -> str:
    """The pattern that finds this text anywhere."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"
