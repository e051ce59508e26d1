"""Figures of one tenant for the management API: conversations by provider, deliveries, reply times, what waits.

Each statement that goes over messages is bounded by a range of time, which the caller limits, and reads it by the index
`messages_latest`, whose predicate it repeats.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection

_BY_PROVIDER = "SELECT provider, total, active, escalated, within_24h FROM active_conversations_by_provider"

_OF_RANGE = """
FROM messages
WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND direction <> ''
    AND ($4::uuid IS NULL OR channel_id = $4)
"""
_DELIVERIES = f"""
SELECT channel_id, date_trunc('hour', created_at, 'UTC') AS hour, count(*) AS outbound,
    count(*) FILTER (WHERE sent_at IS NOT NULL OR status IN ('sent', 'delivered', 'read')) AS sent,
    count(*) FILTER (WHERE status IN ('delivered', 'read')) AS delivered,
    count(*) FILTER (WHERE status = 'read') AS read,
    count(*) FILTER (WHERE status IN ('failed', 'expired')) AS failed
{_OF_RANGE} AND direction = 'outbound'
GROUP BY GROUPING SETS ((channel_id), (date_trunc('hour', created_at, 'UTC')))
ORDER BY 2, 1
"""

# A reply is the first message of ours after one of the customer's; its time counts from the customer's latest message.
_REPLY_TIMES = f"""
WITH talk AS (
    SELECT channel_id, direction, created_at, lag(direction) OVER talk AS before, lag(created_at) OVER talk AS since
    {_OF_RANGE} AND role <> 'system'
    WINDOW talk AS (PARTITION BY conversation_id ORDER BY created_at, id)
), replies AS (
    SELECT channel_id, date_trunc('hour', created_at, 'UTC') AS hour,
        extract(epoch FROM created_at - since)::float8 AS seconds
    FROM talk WHERE direction = 'outbound' AND before = 'inbound'
)
SELECT channel_id, hour, count(*) AS replies, avg(seconds) AS mean_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median_seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95_seconds
FROM replies GROUP BY GROUPING SETS ((channel_id), (hour)) ORDER BY 2, 1
"""

_CLOSING = """
SELECT c.id AS conversation_id, c.channel_id, c.contact_id, c.contact_name, c.recipient, c.last_user_message_at,
    window_closes_at(c.last_user_message_at) AS closes_at
FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id AND ch.kind = 'whatsapp'
WHERE c.tenant_id = $1 AND c.deleted_at IS NULL
    AND c.last_user_message_at > now() - (window_closes_at(now()) - now())
    AND c.last_user_message_at <= now() - (window_closes_at(now()) - now()) + $2::interval
    AND (c.last_user_message_at, c.id)
        > (coalesce($3, '-infinity'::timestamptz), coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))
ORDER BY c.last_user_message_at, c.id LIMIT $5
"""

_WAITING = """
SELECT channel_id,
    count(*) FILTER (WHERE status = 'held') AS held, min(created_at) FILTER (WHERE status = 'held') AS held_since,
    count(*) FILTER (WHERE status = 'unknown') AS unknown,
    min(unknown_at) FILTER (WHERE status = 'unknown') AS unknown_since
FROM messages WHERE tenant_id = $1 AND status IN ('held', 'unknown') AND direction <> ''
GROUP BY channel_id ORDER BY channel_id
"""


@dataclass(frozen=True, slots=True)
class ProviderCount:
    """Conversations of a provider. `within_24h`: the customer has written in the last 24 hours."""

    provider: str
    total: int
    active: int
    escalated: int
    within_24h: int


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Outbound messages of a channel or, where that is None, of an hour."""

    channel_id: UUID | None
    hour: datetime | None
    outbound: int
    sent: int
    delivered: int
    read: int
    failed: int


@dataclass(frozen=True, slots=True)
class ReplyTimes:
    """Replies of a channel or, where that is None, of an hour."""

    channel_id: UUID | None
    hour: datetime | None
    replies: int
    mean_seconds: float
    median_seconds: float
    p95_seconds: float


@dataclass(frozen=True, slots=True)
class ClosingWindow:
    """A conversation whose 24-hour window is open, and closes soon."""

    conversation_id: UUID
    channel_id: UUID
    contact_id: UUID | None
    contact_name: str | None
    recipient: str
    last_user_message_at: datetime
    closes_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages of a channel that wait: `held` for the customer to write, `unknown` for the outcome of their send."""

    channel_id: UUID
    held: int
    held_since: datetime | None
    unknown: int
    unknown_since: datetime | None


Position = tuple[datetime, UUID]
"""Where a page of closing windows ended: last_user_message_at and id of its last conversation."""


async def by_provider(connection: Connection) -> list[ProviderCount]:
    """The conversations of the session's tenant: one row for each provider, also at zero."""
    return [ProviderCount(**row) for row in await connection.fetch(_BY_PROVIDER)]


async def deliveries(
    connection: Connection, tenant_id: UUID, since: datetime, until: datetime, channel_id: UUID | None
) -> list[Deliveries]:
    """Outbound messages that were created in a range of time, by channel and by hour."""
    rows = await connection.fetch(_DELIVERIES, tenant_id, since, until, channel_id)
    return [Deliveries(**row) for row in rows]


async def reply_times(
    connection: Connection, tenant_id: UUID, since: datetime, until: datetime, channel_id: UUID | None
) -> list[ReplyTimes]:
    """How fast customers were answered in a range of time, by channel and by hour."""
    rows = await connection.fetch(_REPLY_TIMES, tenant_id, since, until, channel_id)
    return [ReplyTimes(**row) for row in rows]


async def closing_windows(
    connection: Connection, tenant_id: UUID, within: timedelta, after: Position | None, limit: int
) -> list[ClosingWindow]:
    """Conversations whose window closes within this time, the next one first, behind the position `after`."""
    at, conversation_id = after or (None, None)
    rows = await connection.fetch(_CLOSING, tenant_id, within, at, conversation_id, limit)
    return [ClosingWindow(**row) for row in rows]


async def waiting(connection: Connection, tenant_id: UUID) -> list[Waiting]:
    """The channels that have messages in `held` or `unknown`."""
    return [Waiting(**row) for row in await connection.fetch(_WAITING, tenant_id)]
