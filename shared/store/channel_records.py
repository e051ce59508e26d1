"""channels: reads, lists and writes one channel's row, as the management API and the palomar command know it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.store.by_key import only_if
from shared.store.newest_first import id_or_last, time_or


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """A live row of `channels`, with raw settings and sealed credentials."""

    id: UUID
    tenant_id: UUID
    endpoint_id: UUID | None
    provider: str
    kind: str
    name: str
    address: str
    business_id: str | None
    status: str
    status_reason: str | None
    settings: Mapping[str, object]
    credentials: str = field(repr=False)
    proven: bool  # false: no one has shown yet that the address is the tenant's, on an endpoint of several tenants
    created_at: datetime
    updated_at: datetime


Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last channel."""

_COLUMNS: Final = (
    "id, tenant_id, endpoint_id, provider, kind, name, address, business_id, status, status_reason, settings, "
    "credentials, proven, created_at, updated_at"
)
_GET = f"SELECT {_COLUMNS} FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
# A tenant has few channels: all of them are read and sorted.
_PAGE = f"""
SELECT {_COLUMNS} FROM channels
WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR provider = $2)
    AND ($3::text IS NULL OR kind = $3)
    AND (created_at, id)
        < ({time_or("infinity", 4)}, {id_or_last(5)})
ORDER BY created_at DESC, id DESC LIMIT $6
"""
_OF_PROVIDER = f"""
SELECT {_COLUMNS} FROM channels
WHERE tenant_id = $1 AND provider = $2 AND deleted_at IS NULL ORDER BY created_at, id
"""
_ON_ENDPOINT = f"SELECT {_COLUMNS} FROM channels WHERE endpoint_id = $1 AND proven AND deleted_at IS NULL ORDER BY id"
_INSERT = f"""
INSERT INTO channels (id, tenant_id, endpoint_id, provider, kind, name, address, credentials, settings, business_id,
    proven)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {_COLUMNS}
"""
_UPDATE = f"""
UPDATE channels SET name = $3, settings = $4 WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE channels SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {_COLUMNS}
"""


async def get(connection: Connection, tenant_id: UUID, channel_id: UUID, *, lock: bool = False) -> ChannelRecord | None:
    """The channel; None where it does not exist or was deleted. With `lock` its row is locked until the end."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, channel_id)
    return None if row is None else ChannelRecord(**row)


async def page(
    connection: Connection,
    tenant_id: UUID,
    *,
    provider: str | None = None,
    kind: str | None = None,
    after: Position | None,
    limit: int,
) -> list[ChannelRecord]:
    """A tenant's channels, newest first, behind the position `after`."""
    created_at, channel_id = after or (None, None)
    rows = await connection.fetch(_PAGE, tenant_id, provider, kind, created_at, channel_id, limit)
    return [ChannelRecord(**row) for row in rows]


async def of_provider(connection: Connection, tenant_id: UUID, provider: str) -> list[ChannelRecord]:
    """A tenant's channels at a provider, oldest first."""
    return [ChannelRecord(**row) for row in await connection.fetch(_OF_PROVIDER, tenant_id, provider)]


async def on_endpoint(connection: Connection, endpoint_id: UUID) -> list[ChannelRecord]:
    """The channels that an endpoint serves, of all tenants, whose address is proven to be theirs."""
    return [ChannelRecord(**row) for row in await connection.fetch(_ON_ENDPOINT, endpoint_id)]


async def insert(
    connection: Connection,
    *,
    channel_id: UUID,
    tenant_id: UUID,
    endpoint_id: UUID,
    provider: str,
    kind: str,
    name: str,
    address: str,
    credentials: str,
    settings: Mapping[str, object],
    business_id: str | None,
    proven: bool,
) -> ChannelRecord:
    """Insert a channel, as palomar_worker. Raises asyncpg.UniqueViolationError where the address is a channel's."""
    return _record(
        await connection.fetchrow(
            _INSERT,
            channel_id, tenant_id, endpoint_id, provider, kind, name, address, credentials, settings, business_id,
            proven,
        )
    )  # fmt: skip


async def update(
    connection: Connection, tenant_id: UUID, channel_id: UUID, name: str, settings: Mapping[str, object]
) -> ChannelRecord:
    """Write a channel's name and settings. The channel must be there."""
    return _record(await connection.fetchrow(_UPDATE, tenant_id, channel_id, name, settings))


async def delete(connection: Connection, tenant_id: UUID, channel_id: UUID) -> ChannelRecord | None:
    """Delete a channel softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, channel_id)
    return None if row is None else ChannelRecord(**row)


def _record(row: asyncpg.Record | None) -> ChannelRecord:
    assert row is not None, "the statement returns the row that it wrote"
    return ChannelRecord(**row)
