"""messages: reads and lists them as the management API shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.store.newest_first import id_or_last, time_or


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A row of `messages`, without what only the workers need."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    direction: str
    role: str
    message_type: str
    content: str
    media: Sequence[Any]
    template: Mapping[str, Any] | None
    status: str
    external_id: str | None
    error_code: str | None
    error_message: str | None
    metadata: Mapping[str, Any]
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    created_at: datetime
    updated_at: datetime


COLUMNS: Final = (
    "id, tenant_id, conversation_id, channel_id, provider, direction, role, message_type, content, media, "
    "coalesce(sent_as, template) AS template, status, external_id, error_code, error_message, metadata, sent_at, "
    "delivered_at, read_at, created_at, updated_at"
)
_GET = f"SELECT {COLUMNS} FROM messages WHERE tenant_id = $1 AND id = $2"
_BY_CAUSE = f"SELECT {COLUMNS} FROM messages WHERE tenant_id = $1 AND dedupe_key = $2"

# By the time alone the index gives the order, so a page of a long conversation reads no more than one of a short one.
# WITH TIES: all messages of the page's last moment, for those are ordered by their ids. BETWEEN lets the planner expect
# few rows, for which it takes no bitmap; that would read all of the conversation.
_OF_CONVERSATION = f"""
SELECT {COLUMNS} FROM (
    SELECT * FROM messages
    WHERE tenant_id = $1 AND conversation_id = $2
        AND created_at BETWEEN '-infinity' AND {time_or("infinity", 3)}
        AND (created_at, id)
            < ({time_or("infinity", 3)}, {id_or_last(4)})
    ORDER BY created_at DESC FETCH FIRST ($5) ROWS WITH TIES
) AS newest
ORDER BY created_at DESC, id DESC LIMIT $5
"""

Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last message."""


async def get(connection: Connection, tenant_id: UUID, message_id: UUID) -> MessageRecord | None:
    """The message; None where there is none."""
    row = await connection.fetchrow(_GET, tenant_id, message_id)
    return None if row is None else MessageRecord(**row)


async def by_cause(connection: Connection, tenant_id: UUID, dedupe_key: str) -> MessageRecord | None:
    """The message with this dedupe_key; None where there is none."""
    row = await connection.fetchrow(_BY_CAUSE, tenant_id, dedupe_key)
    return None if row is None else MessageRecord(**row)


async def of_conversation(
    connection: Connection, tenant_id: UUID, conversation_id: UUID, after: Position | None, limit: int
) -> list[MessageRecord]:
    """A conversation's messages, newest first, behind the position `after`."""
    created_at, message_id = after or (None, None)
    rows = await connection.fetch(_OF_CONVERSATION, tenant_id, conversation_id, created_at, message_id, limit)
    return [MessageRecord(**row) for row in rows]
