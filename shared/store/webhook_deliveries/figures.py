"""webhook_logs and webhook_health: how the webhooks of a tenant do, and of all tenants for an operator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.webhooks.health import FAILING_AT

# A call reads so many deliveries, divided among the tenant's webhooks: it has seconds, and a log has millions.
MOST_COUNTED: Final = 100_000
MOST_LOOKED_AT: Final = 10_000  # webhooks whose oldest delivery is looked for
LEAST_COUNTED: Final = 1000  # of each webhook, however many there are

_OF_TENANT = """
SELECT w.id AS webhook_id, w.name, w.is_active, coalesce(h.failures, 0) AS failures, h.disabled_at, waiting, delivered,
    failed, missed, is_more
FROM webhooks w
LEFT JOIN webhook_health h ON h.tenant_id = w.tenant_id AND h.webhook_id = w.id
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting FROM (
        SELECT FROM webhook_logs l
        WHERE l.webhook_id = w.id AND l.tenant_id = w.tenant_id AND l.due_at IS NOT NULL
        ORDER BY l.due_at LIMIT $4) AS counted
) AS now_due
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE success) AS delivered, count(*) FILTER (WHERE NOT success) AS failed,
        count(*) FILTER (WHERE success IS NULL AND held = 'missed') AS missed, count(*) > $4 AS is_more
    FROM (
        SELECT success, held FROM webhook_logs l
        WHERE l.webhook_id = w.id AND l.tenant_id = w.tenant_id AND l.created_at >= $2 AND l.created_at < $3
            AND NOT l.metadata ? 'test'
        ORDER BY l.created_at DESC LIMIT $4 + 1) AS newest
) AS in_range
WHERE w.tenant_id = $1 AND w.deleted_at IS NULL ORDER BY w.created_at, w.id
"""
_COUNT = "SELECT count(*) FROM webhooks WHERE tenant_id = $1 AND deleted_at IS NULL"
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
# What a pause or a disabling holds back is not late: it waits on purpose. Each webhook's first one is read by an index.
_PAUSED = """
SELECT count(*) FILTER (WHERE h.disabled_at IS NULL AND h.open_until > now()) AS paused,
    count(*) FILTER (WHERE h.disabled_at IS NOT NULL) AS disabled
FROM webhook_health h JOIN webhooks w ON w.tenant_id = h.tenant_id AND w.id = h.webhook_id
    AND w.is_active AND w.deleted_at IS NULL
WHERE h.disabled_at IS NOT NULL OR h.open_until > now()
"""
_OLDEST_DUE = f"""
SELECT coalesce(extract(epoch FROM now() - min(first.due_at)), 0)::float8
FROM (SELECT * FROM webhook_health WHERE due_at IS NOT NULL ORDER BY due_at LIMIT {MOST_LOOKED_AT}) AS h
JOIN webhooks w ON w.tenant_id = h.tenant_id AND w.id = h.webhook_id AND w.is_active AND w.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT l.due_at FROM webhook_logs l
    WHERE l.webhook_id = h.webhook_id AND l.due_at IS NOT NULL AND l.tenant_id = h.tenant_id
    ORDER BY l.due_at LIMIT 1
) AS first
WHERE h.disabled_at IS NULL AND (h.open_until IS NULL OR h.open_until <= now()) AND first.due_at <= now()
"""


@dataclass(frozen=True, slots=True)
class WebhookFigures:
    """A webhook of a tenant: its deliveries that wait now, and what became of those of a range of time."""

    webhook_id: UUID
    name: str
    is_active: bool
    failures: int  # attempts in a row
    disabled_at: datetime | None
    waiting: int  # at least so many, where it is as many as a webhook's share of MOST_COUNTED
    delivered: int
    failed: int
    missed: int
    is_more: bool  # the range has more deliveries than that share; the newest ones are counted

    @property
    def is_failing(self) -> bool:
        """Whether its last attempts have failed, and Palomar still tries."""
        return self.disabled_at is None and self.failures >= FAILING_AT


@dataclass(frozen=True, slots=True)
class Lateness:
    """Of all webhooks that are switched on."""

    paused: int  # their circuit breaker is open
    disabled: int  # by us
    oldest_due: float  # seconds that the delivery which is due longest is late; 0: none is


@dataclass(frozen=True, slots=True)
class Troubled:
    """All tenants' webhooks that fail or are disabled, by their ids, and what waits of every webhook."""

    failing: tuple[str, ...]
    disabled: tuple[str, ...]
    waiting: int
    overdue: int  # webhooks whose turn nobody has taken in time
    paused: int  # webhooks that are switched on, whose circuit breaker is open
    oldest_due: float  # seconds: see Lateness


async def of_tenant(connection: Connection, tenant_id: UUID, since: datetime, until: datetime) -> list[WebhookFigures]:
    """A tenant's webhooks, oldest first, with their deliveries of events of a range of time."""
    share = max(LEAST_COUNTED, MOST_COUNTED // max(1, await connection.fetchval(_COUNT, tenant_id)))
    return [WebhookFigures(**row) for row in await connection.fetch(_OF_TENANT, tenant_id, since, until, share)]


async def troubled(pool: Connection | Pool) -> Troubled:
    """What an operator should know of all webhooks."""
    rows = await pool.fetch(_TROUBLED)
    late = await lateness(pool)
    return Troubled(
        failing=tuple(row["id"] for row in rows if not row["is_disabled"]),
        disabled=tuple(row["id"] for row in rows if row["is_disabled"]),
        waiting=await pool.fetchval(_OWED),
        overdue=await pool.fetchval(_OVERDUE),
        paused=late.paused,
        oldest_due=late.oldest_due,
    )


async def lateness(connection: Connection | Pool) -> Lateness:
    """How many webhooks get nothing now, and how late the others' deliveries are."""
    counts = await connection.fetchrow(_PAUSED)
    assert counts is not None
    return Lateness(counts["paused"], counts["disabled"], await connection.fetchval(_OLDEST_DUE))
