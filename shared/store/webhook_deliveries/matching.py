"""webhook_logs: writes deliveries, and makes their webhooks due, in the transaction that matches events."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from shared.database import Connection
from shared.domain.event_cursor import LAST
from shared.store.arrays import arrays
from shared.store.webhook_deliveries.facts import Key

OVERTAKEN_AFTER: Final = 3  # failed attempts; then the next deliveries of the conversation no longer wait

Talk = tuple[UUID, UUID, UUID]
"""(tenant, webhook, conversation): deliveries of one wait for each other, where the webhook wants them in order."""
Held = Literal["waiting", "missed"]


@dataclass(frozen=True, slots=True)
class State:
    """What matching needs to know of a webhook whose health it has locked."""

    is_held: bool  # by a process that delivers to it
    is_ours: bool  # by this one
    is_disabled: bool
    is_well: bool  # no attempt has failed since the last good one
    open_until: datetime | None  # no attempt before; None: at once
    rests: bool  # nothing of it is due, nor on its way to a worker


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A row of `webhook_logs`."""

    id: UUID
    tenant_id: UUID
    webhook_id: UUID
    event: str
    body: bytes = field(repr=False)  # JSON
    created_at: datetime
    conversation_id: UUID | None
    sequence: int | None
    held: Held | None


_LOCK = """
SELECT h.tenant_id, h.webhook_id, h.held_until > now() AS is_held, h.held_until > now() AND h.holder = $3 AS is_ours,
    h.disabled_at IS NOT NULL AS is_disabled,
    h.failures = 0 AND h.disabled_at IS NULL AND h.open_until IS NULL AS is_well,
    CASE WHEN h.open_until > now() THEN h.open_until END AS open_until,
    h.due_at IS NULL OR h.due_at > now() + $4::interval AS rests
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
JOIN webhook_health h ON h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
ORDER BY h.tenant_id, h.webhook_id FOR NO KEY UPDATE OF h
"""
_MAKE_HEALTH = """
INSERT INTO webhook_health (tenant_id, webhook_id)
SELECT wanted.tenant_id, wanted.webhook_id FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
ON CONFLICT DO NOTHING
"""
# Those whose webhook or health another session locks, or whose webhook is gone.
_LOCKED = """
SELECT DISTINCT wanted.tenant_id FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
WHERE NOT EXISTS (
    SELECT FROM webhooks w WHERE w.tenant_id = wanted.tenant_id AND w.id = wanted.webhook_id
    FOR KEY SHARE SKIP LOCKED
) OR (wanted.tenant_id, wanted.webhook_id) IN (
    SELECT h.tenant_id, h.webhook_id FROM webhook_health h
    WHERE h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
) AND NOT EXISTS (
    SELECT FROM webhook_health h WHERE h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
    FOR NO KEY UPDATE SKIP LOCKED
)
"""
_COUNT = """
INSERT INTO webhook_sequences AS s (tenant_id, webhook_id, conversation_id, last)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[])
ON CONFLICT (tenant_id, webhook_id, conversation_id) DO UPDATE SET last = s.last + EXCLUDED.last
RETURNING tenant_id, webhook_id, conversation_id, last
"""
# Lets the planner expect few rows, for which it takes the index that has them in their order.
ANY_NUMBER: Final = f"""BETWEEN CASE WHEN talk.webhook_id IS NOT NULL THEN 0::bigint END
            AND CASE WHEN talk.webhook_id IS NOT NULL THEN {LAST} END"""
_IN_FRONT = f"""
SELECT talk.tenant_id, talk.webhook_id, talk.conversation_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS talk (tenant_id, webhook_id, conversation_id)
CROSS JOIN LATERAL (
    SELECT held, attempt_count FROM webhook_logs l
    WHERE l.webhook_id = talk.webhook_id AND l.conversation_id = talk.conversation_id
        AND l.tenant_id = talk.tenant_id AND l.sequence {ANY_NUMBER} AND l.success IS NULL
        AND l.held IS DISTINCT FROM 'missed'
    ORDER BY l.sequence DESC LIMIT 1
) AS last
WHERE last.held = 'waiting' OR last.attempt_count < {OVERTAKEN_AFTER}
"""
# Those of one transaction are due in their order: a webhook's turn takes what has been due longest. One that is taken
# is due when its lease is over, if nobody records its attempt's end.
_INSERT = """
INSERT INTO webhook_logs
    (id, tenant_id, webhook_id, event, payload, created_at, conversation_id, sequence, held, due_at, attempts)
SELECT id, tenant_id, webhook_id, event, body::jsonb, least(created_at, now()), conversation_id, sequence, held,
    CASE WHEN is_taken THEN now() + $11::interval
        WHEN held IS NULL THEN now() - interval '1 second' + place * interval '1 microsecond' END,
    CASE WHEN is_taken THEN jsonb_build_array(jsonb_build_object('number', 1, 'at', $12::text, 'ended_at', NULL,
        'status', NULL, 'ms', NULL, 'response', NULL, 'error', NULL, 'kind', 'delivery')) ELSE '[]' END
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::uuid[], $8::bigint[],
    $9::text[], $10::boolean[]) WITH ORDINALITY
    AS new (id, tenant_id, webhook_id, event, body, created_at, conversation_id, sequence, held, is_taken, place)
ON CONFLICT DO NOTHING
RETURNING id, CASE WHEN attempts <> '[]' THEN convert_to(payload::text, 'UTF8') END AS body
"""
_DUE_IN = """
UPDATE webhook_health h SET due_at = now() + $3::interval
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
WHERE h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
"""
_DUE_WHEN_CLOSED = """
UPDATE webhook_health h SET due_at = least(h.due_at, h.open_until)
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, webhook_id)
WHERE h.tenant_id = wanted.tenant_id AND h.webhook_id = wanted.webhook_id
"""


async def lock_health(
    connection: Connection, webhooks: Iterable[Key], holder: UUID, handoff: timedelta
) -> dict[Key, State]:
    """Lock how these webhooks do, in order, and return it; a webhook that has none yet gets it.

    `holder` is this process, `handoff` the lease of a job that is published. Raises ForeignKeyViolationError where a
    webhook is gone meanwhile.
    """
    wanted = sorted(set(webhooks))
    columns = arrays(wanted, 2)
    rows = await connection.fetch(_LOCK, *columns, holder, handoff)
    if len(rows) < len(wanted):
        await connection.execute(_MAKE_HEALTH, *columns)
        rows = await connection.fetch(_LOCK, *columns, holder, handoff)
    return {
        (row["tenant_id"], row["webhook_id"]): State(
            bool(row["is_held"]),
            bool(row["is_ours"]),
            row["is_disabled"],
            row["is_well"],
            row["open_until"],
            row["rests"],
        )
        for row in rows
    }


async def locked_tenants(connection: Connection, webhooks: Iterable[Key]) -> set[UUID]:
    """The tenants of these webhooks of which another session locks rows."""
    return {row["tenant_id"] for row in await connection.fetch(_LOCKED, *arrays(sorted(set(webhooks)), 2))}


async def count(connection: Connection, talks: Mapping[Talk, int]) -> dict[Talk, int]:
    """Count so many deliveries more of each; returns the number of the last one. Locks their rows, in order."""
    keys = sorted(talks)
    if not keys:
        return {}
    rows = await connection.fetch(_COUNT, *arrays(keys, 3), [talks[key] for key in keys])
    return {(row["tenant_id"], row["webhook_id"], row["conversation_id"]): row["last"] for row in rows}


async def have_someone_in_front(connection: Connection, talks: Iterable[Talk]) -> set[Talk]:
    """Those in which the next delivery has to wait for one before it. Their sequences must be locked."""
    keys = sorted(set(talks))
    if not keys:
        return set()
    return {tuple(row) for row in await connection.fetch(_IN_FRONT, *arrays(keys, 3))}


async def insert(
    connection: Connection, deliveries: Sequence[NewDelivery], taken: Collection[UUID], lease: timedelta, at: str
) -> Mapping[UUID, bytes | None]:
    """Write deliveries; returns the ids of those that were not there already, which stay as they are.

    This process makes the first attempt of those in `taken` after the commit: it is noted, with the time `at` (ISO
    8601), and the delivery is due after `lease`; its id comes with its body, as all attempts send it.
    """
    rows = await connection.fetch(
        _INSERT,
        [one.id for one in deliveries],
        [one.tenant_id for one in deliveries],
        [one.webhook_id for one in deliveries],
        [one.event for one in deliveries],
        [one.body.decode() for one in deliveries],
        [one.created_at for one in deliveries],
        [one.conversation_id for one in deliveries],
        [one.sequence for one in deliveries],
        [one.held for one in deliveries],
        [one.id in taken for one in deliveries],
        lease,
        at,
    )
    return {row["id"]: row["body"] for row in rows}


async def make_due(connection: Connection, webhooks: Iterable[Key], handoff: timedelta) -> None:
    """The caller publishes their jobs after the commit. Where those are lost, they are due after `handoff`."""
    await connection.execute(_DUE_IN, *arrays(sorted(webhooks), 2), handoff)


async def make_due_when_closed(connection: Connection, webhooks: Iterable[Key]) -> None:
    """Make webhooks due as soon as their circuit breaker lets them be tried."""
    await connection.execute(_DUE_WHEN_CLOSED, *arrays(sorted(webhooks), 2))
