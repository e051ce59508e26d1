"""sessions: where a bot stands in its talk with a person, as the documented table `whatsapp_sessions` has it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.store.newest_first import id_or_last, time_or


@dataclass(frozen=True, slots=True)
class Session:
    """A row of `sessions`."""

    id: UUID
    tenant_id: UUID
    channel_id: UUID
    conversation_id: UUID | None
    contact_id: UUID | None
    phone_number: str
    state: str
    context_data: object  # JSON, as the bot wrote it
    last_message_at: datetime
    created_at: datetime
    updated_at: datetime


Position = tuple[datetime, UUID]
"""Where a page ended: last_message_at and id of its last session."""

_COLUMNS: Final = (
    "id, tenant_id, channel_id, conversation_id, contact_id, phone_number, state, context_data, last_message_at, "
    "created_at, updated_at"
)
_GET = f"SELECT {_COLUMNS} FROM sessions WHERE tenant_id = $1 AND id = $2"
_PAGE = f"""
SELECT {_COLUMNS} FROM sessions
WHERE tenant_id = $1 AND state <> ''
    AND (last_message_at, id)
        < ({time_or("infinity", 2)}, {id_or_last(3)})
ORDER BY last_message_at DESC, id DESC LIMIT $4
"""


async def get(connection: Connection, tenant_id: UUID, session_id: UUID) -> Session | None:
    """The session of this id."""
    row = await connection.fetchrow(_GET, tenant_id, session_id)
    return None if row is None else Session(**row)


async def page(connection: Connection, tenant_id: UUID, *, after: Position | None, limit: int) -> list[Session]:
    """A tenant's sessions, the one with the newest message first, behind the position `after`."""
    at, session_id = after or (None, None)
    rows = await connection.fetch(_PAGE, tenant_id, at, session_id, limit)
    return [Session(**row) for row in rows]
