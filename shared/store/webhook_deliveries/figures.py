"""webhook_logs and webhook_health: how the webhooks of a tenant do, and of all tenants for an operator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.webhooks.health import FAILING_AT

MOST_COUNTED: Final = 100_000  # deliveries of a webhook that wait

_WAITING: Final = f"""(
    SELECT count(*) AS waiting FROM (
        SELECT FROM webhook_logs l
        WHERE l.webhook_id = w.id AND l.tenant_id = w.tenant_id AND l.due_at IS NOT NULL
        LIMIT {MOST_COUNTED}) AS counted
)"""
_OF_TENANT = f"""
SELECT w.id AS webhook_id, w.name, w.is_active, coalesce(h.failures, 0) AS failures, h.disabled_at, waiting, delivered,
    failed, missed
FROM webhooks w
LEFT JOIN webhook_health h ON h.tenant_id = w.tenant_id AND h.webhook_id = w.id
CROSS JOIN LATERAL {_WAITING} AS now_due
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE success) AS delivered, count(*) FILTER (WHERE NOT success) AS failed,
        count(*) FILTER (WHERE success IS NULL AND held = 'missed') AS missed
    FROM webhook_logs l
    WHERE l.webhook_id = w.id AND l.tenant_id = w.tenant_id AND l.created_at >= $2 AND l.created_at < $3
        AND NOT l.metadata ? 'test'
) AS in_range
WHERE w.tenant_id = $1 AND w.deleted_at IS NULL ORDER BY w.created_at, w.id
"""
# The few that fail or are disabled, and what waits of all: for `palomar status`.
_TROUBLED = f"""
SELECT h.webhook_id::text AS id, h.disabled_at IS NOT NULL AS is_disabled
FROM webhook_health h JOIN webhooks w ON w.tenant_id = h.tenant_id AND w.id = h.webhook_id AND w.deleted_at IS NULL
WHERE h.disabled_at IS NOT NULL OR h.failures >= {FAILING_AT} ORDER BY h.tenant_id, h.webhook_id LIMIT 1000
"""
_OWED = "SELECT count(*) FROM webhook_logs WHERE due_at IS NOT NULL"
_OVERDUE = """
SELECT count(*) FROM webhook_health
WHERE due_at < now() - interval '5 seconds' AND (held_until IS NULL OR held_until < now())
"""


@dataclass(frozen=True, slots=True)
class WebhookFigures:
    """A webhook of a tenant: its deliveries that wait now, and what became of those of a range of time."""

    webhook_id: UUID
    name: str
    is_active: bool
    failures: int  # attempts in a row
    disabled_at: datetime | None
    waiting: int  # counted up to MOST_COUNTED
    delivered: int
    failed: int
    missed: int

    @property
    def is_failing(self) -> bool:
        """Whether its last attempts have failed, and Palomar still tries."""
        return self.disabled_at is None and self.failures >= FAILING_AT


@dataclass(frozen=True, slots=True)
class Troubled:
    """All tenants' webhooks that fail or are disabled, by their ids, and what waits of every webhook."""

    failing: tuple[str, ...]
    disabled: tuple[str, ...]
    waiting: int
    overdue: int  # webhooks whose turn nobody has taken in time


async def of_tenant(connection: Connection, tenant_id: UUID, since: datetime, until: datetime) -> list[WebhookFigures]:
    """A tenant's webhooks, oldest first, with their deliveries of events of a range of time."""
    return [WebhookFigures(**row) for row in await connection.fetch(_OF_TENANT, tenant_id, since, until)]


async def troubled(pool: Connection | Pool) -> Troubled:
    """What an operator should know of all webhooks."""
    rows = await pool.fetch(_TROUBLED)
    return Troubled(
        failing=tuple(row["id"] for row in rows if not row["is_disabled"]),
        disabled=tuple(row["id"] for row in rows if row["is_disabled"]),
        waiting=await pool.fetchval(_OWED),
        overdue=await pool.fetchval(_OVERDUE),
    )
