"""erasure_requests: contacts that a tenant has asked to be erased. A row goes with its contact."""

from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection, Pool

_ADD = """
INSERT INTO erasure_requests (tenant_id, contact_id) VALUES ($1, $2)
ON CONFLICT (tenant_id, contact_id) DO NOTHING RETURNING requested_at
"""
_ADDED = "SELECT requested_at FROM erasure_requests WHERE tenant_id = $1 AND contact_id = $2"
_IS_PENDING = "SELECT true FROM erasure_requests WHERE tenant_id = $1 AND contact_id = $2"
_TAKE = """
UPDATE erasure_requests AS r SET due_at = now() + $1::interval
FROM (
    SELECT tenant_id, contact_id FROM erasure_requests WHERE due_at <= now()
    ORDER BY due_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
) AS due
WHERE r.tenant_id = due.tenant_id AND r.contact_id = due.contact_id RETURNING r.tenant_id, r.contact_id
"""


async def add(connection: Connection, tenant_id: UUID, contact_id: UUID) -> tuple[datetime, bool]:
    """Add a request; returns when it was made, and whether this one is the first."""
    requested_at: datetime | None = await connection.fetchval(_ADD, tenant_id, contact_id)
    if requested_at is not None:
        return requested_at, True
    return await connection.fetchval(_ADDED, tenant_id, contact_id), False


async def is_pending(connection: Connection, tenant_id: UUID, contact_id: UUID) -> bool:
    """Whether a contact is about to be erased."""
    return await connection.fetchval(_IS_PENDING, tenant_id, contact_id) is not None


async def take(pool: Pool, lease: timedelta) -> tuple[UUID, UUID] | None:
    """(tenant, contact) of a request that is due; it is due again after the lease. None where none is due."""
    row = await pool.fetchrow(_TAKE, lease)
    return None if row is None else (row["tenant_id"], row["contact_id"])
