"""webhook_health and webhook_logs: a process holds a webhook, takes what is due of it, and lets go of it.

While a webhook is held nobody else delivers to it, so that its order, its rate and its circuit breaker are decided in
one place. A process that is killed holds it until the lease ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import asyncpg

from shared.database import Connection, Pool
from shared.domain.webhooks.health import Health
from shared.queue.jobs import WebhookDue
from shared.store.arrays import arrays
from shared.store.webhook_deliveries.facts import Key
from shared.store.webhook_keys import SealedKeys

Kind = Literal["delivery", "replay", "test"]
MOST: Final = 64  # deliveries of a webhook, and replays of it, that are taken at once
LARGEST: Final = 2 * 1024**2  # bytes of a body; an import may have left larger ones, and those are not sent


@dataclass(frozen=True, slots=True)
class Turn:
    """A webhook that this process holds."""

    tenant_id: UUID
    webhook_id: UUID
    url: str
    is_live: bool  # active and not deleted: else only replays are sent
    is_deleted: bool
    in_order: bool
    awaits_secret: bool  # the clock has not sealed it yet
    health: Health
    replay_failures: int
    replay_open_until: datetime | None
    keys: SealedKeys = field(repr=False)
    updated_at: datetime  # of the webhook: its URL, its secret and what it wants are as they were then
    now: datetime  # PostgreSQL's clock

    @property
    def key(self) -> Key:
        return self.tenant_id, self.webhook_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that is noted in its delivery's row and has not been made."""

    tenant_id: UUID
    webhook_id: UUID
    delivery_id: UUID
    event: str
    kind: Kind
    number: int  # of the delivery's attempts, from 1
    body: bytes | None = field(repr=False)  # None: too large
    attempts: int  # of the schedule, that ended before this one
    created_at: datetime
    was_delivered: bool
    conversation_id: UUID | None
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Room:
    """How many deliveries and replays a turn has room for: at most MOST of each."""

    tenant_id: UUID
    webhook_id: UUID
    deliveries: int
    replays: int


# Lets the planner expect few rows, for which it takes the index that has them in their order.
ANY_TIME: Final = """BETWEEN CASE WHEN own.webhook_id IS NOT NULL THEN '-infinity'::timestamptz END
            AND CASE WHEN own.webhook_id IS NOT NULL THEN 'infinity'::timestamptz END"""
HEALTH_COLUMNS: Final = "failures, first_failed_at, open_until, probes, disabled_at, disabled_reason"
_CLAIM = f"""
WITH claimed AS (
    UPDATE webhook_health h SET holder = $3, held_until = now() + $4::interval, due_at = now() + $4::interval
    FROM (
        SELECT free.tenant_id, free.webhook_id
        FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
        JOIN webhook_health free ON free.tenant_id = wanted.tenant_id AND free.webhook_id = wanted.webhook_id
        WHERE free.held_until IS NULL OR free.held_until < now() OR free.holder = $3
        ORDER BY free.tenant_id, free.webhook_id FOR NO KEY UPDATE OF free SKIP LOCKED
    ) AS free
    WHERE h.tenant_id = free.tenant_id AND h.webhook_id = free.webhook_id
    RETURNING h.*
)
SELECT claimed.tenant_id, claimed.webhook_id, {HEALTH_COLUMNS}, replay_failures, replay_open_until, w.url,
    w.is_active AND w.deleted_at IS NULL AS is_live, w.deleted_at IS NOT NULL AS is_deleted, w.in_order,
    w.secret <> '' AND w.sealed_secret = '' AS awaits_secret, w.sealed_secret AS sealed, k.public_key,
    k.sealed_private_key, k.sealed_previous_secret, k.sealed_previous_private_key, k.previous_until,
    w.updated_at, now() AS now
FROM claimed
JOIN webhooks w ON w.tenant_id = claimed.tenant_id AND w.id = claimed.webhook_id
LEFT JOIN webhook_keys k ON k.tenant_id = claimed.tenant_id AND k.webhook_id = claimed.webhook_id
"""
# The attempt is in the row before it is made. The row is due again when the lease is over, if nobody records its end.
# MOST tells the planner how few rows it is about: it takes a tenth of what waits for a limit that it does not know, and
# where many wait it would read the whole log.
_TAKE = f"""
WITH room AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[])
        AS room (tenant_id, webhook_id, deliveries, replays)
), due AS MATERIALIZED (
    SELECT one.tenant_id, one.id, 'delivery' AS kind FROM room CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT l.tenant_id, l.id FROM webhook_logs l
            WHERE l.webhook_id = room.webhook_id AND l.due_at <= now() AND l.tenant_id = room.tenant_id
            ORDER BY l.due_at LIMIT {MOST} FOR NO KEY UPDATE SKIP LOCKED
        ) AS first LIMIT room.deliveries
    ) AS one
), replayed AS MATERIALIZED (
    SELECT one.tenant_id, one.id, coalesce(one.replay_kind, 'replay') AS kind FROM room CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT l.tenant_id, l.id, l.replay_kind FROM webhook_logs l
            WHERE l.webhook_id = room.webhook_id AND l.replay_at <= now() AND l.tenant_id = room.tenant_id
            ORDER BY l.replay_at LIMIT {MOST} FOR NO KEY UPDATE SKIP LOCKED
        ) AS first LIMIT room.replays
    ) AS one WHERE (one.tenant_id, one.id) NOT IN (SELECT tenant_id, id FROM due)
)
UPDATE webhook_logs l SET
    attempts = l.attempts || jsonb_build_object('number', jsonb_array_length(l.attempts) + 1, 'at', $6::text,
        'ended_at', NULL, 'status', NULL, 'ms', NULL, 'response', NULL, 'error', NULL, 'kind', taken.kind),
    due_at = CASE WHEN taken.kind = 'delivery' THEN now() + $5::interval ELSE l.due_at END,
    replay_at = CASE WHEN taken.kind = 'delivery' THEN l.replay_at ELSE now() + $5::interval END
FROM (SELECT * FROM due UNION ALL SELECT * FROM replayed) AS taken
WHERE l.tenant_id = taken.tenant_id AND l.id = taken.id
RETURNING l.tenant_id, l.webhook_id, l.id AS delivery_id, l.event, taken.kind, jsonb_array_length(l.attempts) AS number,
    CASE WHEN octet_length(l.payload::text) <= {LARGEST} THEN convert_to(l.payload::text, 'UTF8') END AS body,
    l.attempt_count AS attempts, l.created_at, l.success IS TRUE AS was_delivered, l.conversation_id, l.sequence
"""
_LOCK_OWN = """
SELECT h.tenant_id, h.webhook_id, h.holder = $3 AS is_own
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
JOIN webhook_health h ON h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
ORDER BY h.tenant_id, h.webhook_id FOR NO KEY UPDATE OF h
"""
_LOCK_OWN_FREE = f"{_LOCK_OWN} SKIP LOCKED"
# In a statement behind the lock: a delivery that matching has committed is seen here, or matching comes later and finds
# the webhook free. A webhook with something to do now is in the queue again; should that be lost, it is due later. One
# that is disabled or deleted has something to do while deliveries of it are pending: they become missed.
_RELEASE = f"""
WITH next AS MATERIALIZED (
    SELECT h.tenant_id, h.webhook_id, least(
        CASE WHEN first.due_at IS NULL THEN NULL
            WHEN w.deleted_at IS NOT NULL OR h.disabled_at IS NOT NULL THEN greatest(now(), own.not_before)
            WHEN w.is_active THEN greatest(first.due_at, h.open_until, own.not_before) END,
        CASE WHEN w.deleted_at IS NULL AND replay.replay_at IS NOT NULL
            THEN greatest(replay.replay_at, h.replay_open_until, own.not_before) END) AS due_at
    FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS own (tenant_id, webhook_id, not_before)
    JOIN webhook_health h ON h.tenant_id = own.tenant_id AND h.webhook_id = own.webhook_id
    JOIN webhooks w ON w.tenant_id = own.tenant_id AND w.id = own.webhook_id
    LEFT JOIN LATERAL (
        SELECT l.due_at FROM webhook_logs l
        WHERE l.webhook_id = own.webhook_id AND l.due_at {ANY_TIME} AND l.tenant_id = own.tenant_id
        ORDER BY l.due_at LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
        SELECT l.replay_at FROM webhook_logs l
        WHERE l.webhook_id = own.webhook_id AND l.replay_at {ANY_TIME} AND l.tenant_id = own.tenant_id
        ORDER BY l.replay_at LIMIT 1
    ) AS replay ON true
)
UPDATE webhook_health h SET holder = NULL, held_until = NULL,
    due_at = CASE WHEN next.due_at <= now() THEN now() + $4::interval ELSE next.due_at END
FROM next WHERE h.tenant_id = next.tenant_id AND h.webhook_id = next.webhook_id
RETURNING h.tenant_id, h.webhook_id, next.due_at <= now() AS is_due
"""
_PUT_OFF = """
UPDATE webhook_health SET due_at = now() + $3::interval
WHERE (tenant_id, webhook_id) IN (
    SELECT tenant_id, webhook_id FROM webhook_health
    WHERE tenant_id = $1 AND webhook_id = $2 AND (held_until IS NULL OR held_until < now())
    FOR NO KEY UPDATE SKIP LOCKED)
"""
_WAKE = """
INSERT INTO webhook_health AS h (tenant_id, webhook_id, due_at) VALUES ($1, $2, now())
ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET due_at = least(h.due_at, now())
"""
_DUE = """
UPDATE webhook_health SET due_at = now() + $1::interval WHERE (tenant_id, webhook_id) IN (
    SELECT tenant_id, webhook_id FROM webhook_health
    WHERE due_at <= now() AND (held_until IS NULL OR held_until < now())
    ORDER BY due_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING tenant_id, webhook_id
"""


async def claim(pool: Pool | Connection, webhooks: Iterable[Key], holder: UUID, lease: timedelta) -> dict[Key, Turn]:
    """Hold those of these webhooks that nobody else holds, for `lease`."""
    rows = await pool.fetch(_CLAIM, *arrays(sorted(set(webhooks)), 2), holder, lease)
    return {(row["tenant_id"], row["webhook_id"]): _turn(row) for row in rows}


async def take(pool: Pool, rooms: Sequence[Room], lease: timedelta, at: str) -> dict[Key, list[Attempt]]:
    """Note an attempt of what is due of webhooks that this process holds, oldest first, and return these.

    `at` is the time as the log shows it, ISO 8601.
    """
    rows = await pool.fetch(
        _TAKE,
        [room.tenant_id for room in rooms],
        [room.webhook_id for room in rooms],
        [room.deliveries for room in rooms],
        [room.replays for room in rooms],
        lease,
        at,
    )
    taken: dict[Key, list[Attempt]] = {(room.tenant_id, room.webhook_id): [] for room in rooms}
    for row in sorted(rows, key=lambda row: (row["created_at"], row["sequence"] or 0)):
        taken[row["tenant_id"], row["webhook_id"]].append(Attempt(**row))
    return taken


async def release(
    connection: Connection,
    webhooks: Mapping[Key, datetime | None],
    holder: UUID,
    handoff: timedelta,
    *,
    wait_for_locks: bool,
) -> dict[Key, bool]:
    """Let go of webhooks, in the caller's transaction; returns which of them have something to do now, which the caller
    publishes after the commit. None of them has before the time it comes with.

    Without `wait_for_locks` those are left out that another session locks.
    """
    keys = sorted(webhooks)
    rows = await connection.fetch(_LOCK_OWN if wait_for_locks else _LOCK_OWN_FREE, *arrays(keys, 2), holder)
    own = [(row["tenant_id"], row["webhook_id"]) for row in rows if row["is_own"]]
    if not own:
        return {}
    rows = await connection.fetch(_RELEASE, *arrays(own, 2), [webhooks[key] for key in own], handoff)
    return {(row["tenant_id"], row["webhook_id"]): bool(row["is_due"]) for row in rows}


async def put_off(pool: Pool, webhook: Key, wait: timedelta | None) -> None:
    """Give a webhook that nobody holds its turn after `wait`; None: not before something happens."""
    await pool.execute(_PUT_OFF, *webhook, wait)


async def wake(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> None:
    """Note that a webhook has something to do now, such as a replay. As palomar_worker."""
    await connection.execute(_WAKE, tenant_id, webhook_id)


async def due(connection: Connection, lease: timedelta, limit: int) -> Sequence[WebhookDue]:
    """Webhooks with something to do, whose job was lost or whose time has come."""
    return [WebhookDue(**row) for row in await connection.fetch(_DUE, lease, limit)]


def _turn(row: asyncpg.Record) -> Turn:
    keys = SealedKeys(
        row["tenant_id"],
        row["webhook_id"],
        row["sealed"],
        row["public_key"] or "",
        row["sealed_private_key"] or "",
        row["sealed_previous_secret"] or "",
        row["sealed_previous_private_key"] or "",
        row["previous_until"],
    )
    return Turn(
        row["tenant_id"],
        row["webhook_id"],
        row["url"],
        row["is_live"],
        row["is_deleted"],
        row["in_order"],
        row["awaits_secret"],
        health_of(row),
        row["replay_failures"],
        row["replay_open_until"],
        keys,
        row["updated_at"],
        row["now"],
    )


def health_of(row: asyncpg.Record) -> Health:
    """The health of a row with HEALTH_COLUMNS."""
    return Health(
        row["failures"],
        row["first_failed_at"],
        row["open_until"],
        row["probes"],
        row["disabled_at"],
        row["disabled_reason"],
    )
