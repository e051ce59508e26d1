"""messages of all of a tenant's conversations: finds and lists them, newest first, as `messages_history` names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.store.newest_first import id_or_last, time_or

MOST_READ: Final = 1000  # messages that one page reads in search of those that its filters want
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
_BEHIND: Final = f"""created_at BETWEEN {time_or("-infinity", 4)} AND {time_or("infinity", 2)}
    AND (created_at, id)
        < ({time_or("infinity", 2)}, {id_or_last(3)})"""


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


def _source(newest: str, parameters: int) -> tuple[str, str]:
    """Of an ordered SELECT of messages with so many parameters: a page of a bounded number of them, with the filters
    and the limit as its last parameters, and up to where these reach."""
    channel, direction, status, text, limit = (f"${parameters + place}" for place in range(1, 6))
    page = f"""
SELECT {_COLUMNS} FROM (
    SELECT * FROM ({newest} LIMIT {MOST_READ}) AS m
    WHERE ({channel}::uuid IS NULL OR channel_id = {channel}) AND ({direction}::text IS NULL OR direction = {direction})
        AND ({status}::text IS NULL OR status = {status}) AND ({text}::text IS NULL OR content ILIKE {text})
    ORDER BY created_at DESC, id DESC LIMIT {limit}
) AS m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
ORDER BY m.created_at DESC, m.id DESC
"""
    return _within_bytes(page), f"SELECT created_at, id FROM ({newest} OFFSET {MOST_READ - 1} LIMIT 1) AS last"


def _newest(which: str = "true") -> str:
    return f"""
SELECT * FROM messages WHERE tenant_id = $1 AND direction <> '' AND {which} AND {_BEHIND}
ORDER BY created_at DESC, id DESC
"""


_ALL = _source(_newest(), 4)
# Few of many messages wait or end like this. An index has them by their status.
APART: Final = ("held", "unknown", "failed", "expired", "canceled")
_APART = _source(_newest(f"status IN {APART} AND status = $5"), 5)

# By the time alone the index gives the order: see records._OF_CONVERSATION.
_OF_CONVERSATION = _source(
    f"""
SELECT * FROM (
    SELECT * FROM messages WHERE tenant_id = $1 AND conversation_id = $5 AND {_BEHIND}
    ORDER BY created_at DESC FETCH FIRST {MOST_READ} ROWS WITH TIES
) AS theirs ORDER BY created_at DESC, id DESC
""",
    5,
)
_OF_CONVERSATIONS = _source(
    f"""
SELECT theirs.* FROM unnest($5::uuid[]) AS of (id) CROSS JOIN LATERAL (
    SELECT * FROM messages WHERE tenant_id = $1 AND conversation_id = of.id AND {_BEHIND}
    ORDER BY created_at DESC FETCH FIRST ($6) ROWS WITH TIES
) AS theirs ORDER BY created_at DESC, id DESC
""",
    6,
)
_CONVERSATIONS = "SELECT id FROM conversations WHERE tenant_id = $1 AND contact_id = $2"

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

    A page reads at most MOST_READ messages, or as many of each of a contact's conversations, so that one costs the same
    however few the filters want; and it holds at most MOST_BYTES. Where either ends a page before its limit, the second
    value is the position behind the last one that was read; else it is None.
    """
    created_at, last_id = after or (None, None)
    if wanted.until is not None and (created_at is None or wanted.until <= created_at):
        created_at, last_id = wanted.until, UUID(int=0)  # before all of that moment
    filters = (wanted.channel_id, wanted.direction, wanted.status, None if wanted.text is None else _like(wanted.text))
    filtered = any(one is not None for one in filters)
    of: tuple[object, ...] = ()
    statement, read_up_to = _ALL
    if wanted.contact_id is not None:
        ids = [row["id"] for row in await connection.fetch(_CONVERSATIONS, tenant_id, wanted.contact_id)]
        if len(ids) == 1:
            of = (ids[0],)
            statement, read_up_to = _OF_CONVERSATION
        else:
            of = (ids, MOST_READ if filtered else limit)
            statement, read_up_to = _OF_CONVERSATIONS
    elif wanted.status in APART:
        of = (wanted.status,)
        statement, read_up_to = _APART
    begin = (tenant_id, created_at, last_id, wanted.since, *of)
    rows = await connection.fetch(statement, *begin, *filters, limit)
    found = [HistoryRecord(**{name: row[name] for name in _FIELDS}) for row in rows]
    if rows and len(rows) < rows[0]["in_all"]:  # their bytes ended the page
        return found, (found[-1].created_at, found[-1].id)
    if len(found) == limit or not filtered:
        return found, None
    end = await connection.fetchrow(read_up_to, *begin)
    return found, None if end is None else (end["created_at"], end["id"])


def _like(text: str) -> str:
    """The pattern that finds this text anywhere."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"
