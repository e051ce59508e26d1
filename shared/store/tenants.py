"""tenants: finds, lists and adds tenants, for an operator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Tenant:
    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


_COLUMNS: Final = "id, name, created_at, updated_at"
_PAGE = f"""
SELECT {_COLUMNS} FROM tenants
WHERE deleted_at IS NULL
    AND (created_at, id)
        > (coalesce($1, '-infinity'::timestamptz), coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid))
ORDER BY created_at, id LIMIT $3
"""
_GET = f"SELECT {_COLUMNS} FROM tenants WHERE id = $1 AND deleted_at IS NULL"
_NAMED = "SELECT id FROM tenants WHERE name = $1 AND deleted_at IS NULL LIMIT 1"
_LIVES = "SELECT true FROM tenants WHERE id = $1 AND deleted_at IS NULL"
_INSERT = f"INSERT INTO tenants (id, name) VALUES ($1, $2) RETURNING {_COLUMNS}"

Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last tenant."""


async def page(connection: Connection, after: Position | None, limit: int) -> list[Tenant]:
    """Tenants, oldest first, behind the position `after`."""
    created_at, tenant_id = after or (None, None)
    return [Tenant(**row) for row in await connection.fetch(_PAGE, created_at, tenant_id, limit)]


async def get(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """The tenant; None where there is none, or a deleted one."""
    row = await connection.fetchrow(_GET, tenant_id)
    return None if row is None else Tenant(**row)


async def lives(connection: Connection, tenant_id: UUID) -> bool:
    """Whether there is such a tenant."""
    return await connection.fetchval(_LIVES, tenant_id) is not None


async def named(connection: Connection, name: str) -> UUID | None:
    """The living tenant of this name."""
    found: UUID | None = await connection.fetchval(_NAMED, name)
    return found


async def insert(connection: Connection, tenant_id: UUID, name: str) -> Tenant:
    row = await connection.fetchrow(_INSERT, tenant_id, name)
    assert row is not None, "the statement returns the row that it wrote"
    return Tenant(**row)
