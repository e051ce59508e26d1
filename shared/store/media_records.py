"""media: reads and lists the files that customers sent, for the management API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.store.newest_first import id_or_last, time_or


@dataclass(frozen=True, slots=True)
class MediaRecord:
    """A row of `media`, with the conversation that its message belongs to. `key` is of our copy in the blob store."""

    id: UUID
    tenant_id: UUID
    message_id: UUID
    conversation_id: UUID
    channel_id: UUID
    position: int
    status: str
    reason: str | None
    mime_type: str | None
    filename: str | None
    size: int | None
    key: str | None
    created_at: datetime
    stored_at: datetime | None


Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last file."""

_COLUMNS: Final = """
f.id, f.tenant_id, f.message_id, m.conversation_id, m.channel_id, f.position, f.status, f.reason, f.mime_type,
    f.filename, f.size, f.key, f.created_at, f.stored_at
FROM media f JOIN messages m ON m.tenant_id = f.tenant_id AND m.id = f.message_id
"""
_GET = f"SELECT {_COLUMNS} WHERE f.tenant_id = $1 AND f.id = $2"
_PAGE = f"""
SELECT {_COLUMNS}
WHERE f.tenant_id = $1 AND f.position >= 0
    AND (f.created_at, f.id)
        < ({time_or("infinity", 2)}, {id_or_last(3)})
ORDER BY f.created_at DESC, f.id DESC LIMIT $4
"""


async def get(connection: Connection, tenant_id: UUID, media_id: UUID) -> MediaRecord | None:
    """The file of this id."""
    row = await connection.fetchrow(_GET, tenant_id, media_id)
    return None if row is None else MediaRecord(**row)


async def page(connection: Connection, tenant_id: UUID, *, after: Position | None, limit: int) -> list[MediaRecord]:
    """A tenant's files, newest first, behind the position `after`."""
    created_at, media_id = after or (None, None)
    rows = await connection.fetch(_PAGE, tenant_id, created_at, media_id, limit)
    return [MediaRecord(**row) for row in rows]
