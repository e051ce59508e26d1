"""webhook_logs and webhook_health: records how attempts ended, and whose turn in a conversation that makes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.webhooks.health import Health
from shared.store.arrays import arrays
from shared.store.webhook_deliveries.facts import Key
from shared.store.webhook_deliveries.matching import ANY_NUMBER, OVERTAKEN_AFTER, Talk
from shared.store.webhook_deliveries.turns import HEALTH_COLUMNS, Attempt, health_of

PULLED_IN: Final = 1000  # deliveries that a recovered webhook's success makes due at once


@dataclass(frozen=True, slots=True)
class Ended:
    """What the row of a delivery says after an attempt. For a replay: `success` is only written where it is true."""

    attempt: Attempt
    entry: Mapping[str, Any]  # of the row's `attempts`
    response: str | None
    status: int | None
    error: str | None
    success: bool | None  # None: it is tried again at `due_at`
    due_at: datetime | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class LockedHealth:
    """How a webhook does; `replay_failures` in a row, which are no part of its health."""

    health: Health = field(default_factory=Health)
    replay_failures: int = 0
    replay_open_until: datetime | None = None


_LOCK_ROWS = """
SELECT l.tenant_id, l.id FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, id)
JOIN webhook_logs l ON l.tenant_id = wanted.tenant_id AND l.id = wanted.id
ORDER BY l.id, l.tenant_id FOR NO KEY UPDATE OF l
"""
_LOCK_FREE_ROWS = f"{_LOCK_ROWS} SKIP LOCKED"
_LOCK_HEALTH = f"""
SELECT h.tenant_id, h.webhook_id, {HEALTH_COLUMNS}, replay_failures, replay_open_until
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
JOIN webhook_health h ON h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
ORDER BY h.tenant_id, h.webhook_id FOR NO KEY UPDATE OF h
"""
_LOCK_FREE_HEALTH = f"{_LOCK_HEALTH} SKIP LOCKED"
_HEALTHY = """
SELECT h.tenant_id, h.webhook_id
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
CROSS JOIN LATERAL (
    SELECT * FROM webhook_health WHERE tenant_id = wanted.tenant_id AND webhook_id = wanted.webhook_id OFFSET 0
) AS h
WHERE h.failures = 0 AND h.probes = 0 AND h.replay_failures = 0 AND h.first_failed_at IS NULL AND h.open_until IS NULL
    AND h.disabled_at IS NULL AND h.disabled_reason IS NULL AND h.replay_open_until IS NULL
"""
_LOCK_TALKS = """
SELECT FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS talk (tenant_id, webhook_id, conversation_id)
JOIN webhook_sequences s ON s.tenant_id = talk.tenant_id AND s.webhook_id = talk.webhook_id
    AND s.conversation_id = talk.conversation_id
ORDER BY s.tenant_id, s.webhook_id, s.conversation_id FOR NO KEY UPDATE OF s
"""
# Not of a person who was erased meanwhile: the answer may repeat their words, and nothing is owed any more.
_RECORD = """
UPDATE webhook_logs l SET
    attempts = jsonb_set(l.attempts, ARRAY[(ended.number - 1)::text], ended.entry),
    response = ended.response, status_code = ended.status, error_message = ended.error, completed_at = ended.ended_at,
    attempt_count = CASE WHEN kind = 'delivery' THEN least(l.attempt_count, 1000000) + 1 ELSE l.attempt_count END,
    success = CASE WHEN ended.success OR kind <> 'replay' AND l.success IS NULL THEN ended.success ELSE l.success END,
    held = CASE WHEN ended.success THEN NULL ELSE l.held END,
    due_at = CASE WHEN ended.success THEN NULL WHEN kind = 'delivery' THEN ended.due_at ELSE l.due_at END,
    replay_at = CASE WHEN kind = 'delivery' THEN l.replay_at END,
    replay_kind = CASE WHEN kind = 'delivery' THEN l.replay_kind END
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::jsonb[], $6::text[], $7::int[], $8::text[],
    $9::boolean[], $10::timestamptz[], $11::timestamptz[])
    AS ended (tenant_id, id, number, kind, entry, response, status, error, success, due_at, ended_at)
WHERE l.tenant_id = ended.tenant_id AND l.id = ended.id AND NOT l.metadata ? 'erased'
"""
_WRITE_HEALTH = """
UPDATE webhook_health h SET failures = now_is.failures, first_failed_at = now_is.first_failed_at,
    open_until = now_is.open_until, probes = now_is.probes, disabled_at = now_is.disabled_at,
    disabled_reason = now_is.disabled_reason, replay_failures = now_is.replay_failures,
    replay_open_until = now_is.replay_open_until
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::int[], $7::timestamptz[],
    $8::text[], $9::int[], $10::timestamptz[])
    AS now_is (tenant_id, webhook_id, failures, first_failed_at, open_until, probes, disabled_at, disabled_reason,
        replay_failures, replay_open_until)
WHERE h.tenant_id = now_is.tenant_id AND h.webhook_id = now_is.webhook_id
"""
# The next delivery of a conversation is free where nothing pending is before it, or what is before it has failed often.
_NEXT_OF_TALKS = f"""
SELECT talk.tenant_id, next.id FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
    AS talk (tenant_id, webhook_id, conversation_id)
CROSS JOIN LATERAL (
    SELECT l.id, l.sequence FROM webhook_logs l
    WHERE l.webhook_id = talk.webhook_id AND l.conversation_id = talk.conversation_id AND l.sequence {ANY_NUMBER}
        AND l.success IS NULL AND l.tenant_id = talk.tenant_id AND l.held = 'waiting'
    ORDER BY l.sequence LIMIT 1
) AS next
LEFT JOIN LATERAL (
    SELECT l.attempt_count FROM webhook_logs l
    WHERE l.webhook_id = talk.webhook_id AND l.conversation_id = talk.conversation_id AND l.sequence < next.sequence
        AND l.success IS NULL AND l.tenant_id = talk.tenant_id AND l.held IS NULL
    ORDER BY l.sequence DESC LIMIT 1
) AS before ON true
WHERE coalesce(before.attempt_count, {OVERTAKEN_AFTER}) >= {OVERTAKEN_AFTER}
ORDER BY next.id
"""
_FREE = """
UPDATE webhook_logs SET held = NULL, due_at = now()
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND held = 'waiting'
"""
_WAITING = """
SELECT tenant_id, webhook_id, conversation_id FROM webhook_logs
WHERE webhook_id = $2 AND sequence IS NOT NULL AND success IS NULL AND tenant_id = $1 AND held = 'waiting'
LIMIT $3
"""
# A retry's due time is later than that of younger deliveries that waited for the circuit breaker. Those of one age come
# in the order of their first attempts. Not those whose attempt is under way.
_PULL_IN = f"""
WITH tried AS MATERIALIZED (
    SELECT tenant_id, id, created_at, attempts #>> '{{0,at}}' AS first_at FROM webhook_logs
    WHERE webhook_id = $2 AND due_at > created_at - interval '1 second' AND attempt_count > 0 AND tenant_id = $1
        AND attempts #> '{{-1,ended_at}}' IS DISTINCT FROM 'null'
    ORDER BY created_at LIMIT {PULLED_IN} FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_logs l SET due_at = by_age.created_at - interval '1 second' + by_age.place * interval '1 microsecond'
FROM (SELECT *, row_number() OVER (ORDER BY created_at, first_at) AS place FROM tried) AS by_age
WHERE l.tenant_id = by_age.tenant_id AND l.id = by_age.id
"""
_MISS = """
UPDATE webhook_logs SET held = 'missed', due_at = NULL WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM webhook_logs WHERE webhook_id = $2 AND due_at IS NOT NULL AND tenant_id = $1
    ORDER BY due_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING conversation_id
"""
_MISS_WAITING = """
UPDATE webhook_logs SET held = 'missed' WHERE (tenant_id, id) IN (
    SELECT one.tenant_id, one.id FROM unnest($3::uuid[]) AS talk (conversation_id) CROSS JOIN LATERAL (
        SELECT l.tenant_id, l.id FROM webhook_logs l
        WHERE l.webhook_id = $2 AND l.conversation_id = talk.conversation_id AND l.sequence IS NOT NULL
            AND l.success IS NULL AND l.tenant_id = $1 AND l.held = 'waiting'
        ORDER BY l.sequence FOR NO KEY UPDATE SKIP LOCKED
    ) AS one)
"""


async def lock_rows(connection: Connection, keys: Iterable[Key], *, wait: bool) -> set[Key]:
    """Lock deliveries, in order; returns those that are there. Without `wait`, without those that are locked."""
    wanted = sorted(set(keys))
    rows = await connection.fetch(_LOCK_ROWS if wait else _LOCK_FREE_ROWS, *arrays(wanted, 2))
    return {(row["tenant_id"], row["id"]) for row in rows}


async def healthy(connection: Connection, webhooks: Iterable[Key]) -> set[Key]:
    """Those of these webhooks that have no failure. Nothing is locked: a success has nothing to write there."""
    rows = await connection.fetch(_HEALTHY, *arrays(sorted(set(webhooks)), 2))
    return {(row["tenant_id"], row["webhook_id"]) for row in rows}


async def lock_health(connection: Connection, webhooks: Iterable[Key], *, wait: bool) -> dict[Key, LockedHealth]:
    """Lock how webhooks do, as `lock_rows` does deliveries."""
    wanted = sorted(set(webhooks))
    rows = await connection.fetch(_LOCK_HEALTH if wait else _LOCK_FREE_HEALTH, *arrays(wanted, 2))
    return {
        (row["tenant_id"], row["webhook_id"]): LockedHealth(
            health_of(row), row["replay_failures"], row["replay_open_until"]
        )
        for row in rows
    }


async def lock_talks(connection: Connection, talks: Iterable[Talk]) -> None:
    """Lock the order of these conversations: nothing is matched for them before the transaction ends."""
    await connection.execute(_LOCK_TALKS, *arrays(sorted(set(talks)), 3))


async def record(connection: Connection, ended: Sequence[Ended]) -> None:
    """Write how attempts ended, into rows that are locked."""
    await connection.execute(
        _RECORD,
        [one.attempt.tenant_id for one in ended],
        [one.attempt.delivery_id for one in ended],
        [one.attempt.number for one in ended],
        [one.attempt.kind for one in ended],
        [one.entry for one in ended],
        [one.response for one in ended],
        [one.status for one in ended],
        [one.error for one in ended],
        [one.success for one in ended],
        [one.due_at for one in ended],
        [one.ended_at for one in ended],
    )


async def write_health(connection: Connection, healths: Mapping[Key, LockedHealth]) -> None:
    """Write how webhooks do, into rows that are locked."""
    keys = sorted(healths)
    found = [healths[key] for key in keys]
    await connection.execute(
        _WRITE_HEALTH,
        *arrays(keys, 2),
        [one.health.failures for one in found],
        [one.health.first_failed_at for one in found],
        [one.health.open_until for one in found],
        [one.health.probes for one in found],
        [one.health.disabled_at for one in found],
        [one.health.disabled_reason for one in found],
        [one.replay_failures for one in found],
        [one.replay_open_until for one in found],
    )


async def free_next(connection: Connection, talks: Iterable[Talk]) -> None:
    """Make the deliveries pending whose turn it is in these conversations. Their order must be locked."""
    rows = await connection.fetch(_NEXT_OF_TALKS, *arrays(sorted(set(talks)), 3))
    if rows:
        await connection.execute(_FREE, [row["tenant_id"] for row in rows], [row["id"] for row in rows])


async def waiting(pool: Pool, tenant_id: UUID, webhook_id: UUID, limit: int) -> set[Talk]:
    """Conversations in which deliveries to a webhook wait, some of them."""
    return {tuple(row) for row in await pool.fetch(_WAITING, tenant_id, webhook_id, limit)}


async def pull_in(connection: Connection, webhook: Key) -> None:
    """Make deliveries of a webhook due by their age that were attempted before."""
    await connection.execute(_PULL_IN, *webhook)


async def miss(connection: Connection, webhook: Key, limit: int) -> int:
    """Turn pending deliveries of a disabled webhook, and what waits behind them, into missed; returns how many."""
    rows = await connection.fetch(_MISS, *webhook, limit)
    talks = sorted({row["conversation_id"] for row in rows} - {None})
    if talks:
        await connection.execute(_MISS_WAITING, *webhook, talks)
    return len(rows)
