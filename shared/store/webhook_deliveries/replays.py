"""Marks deliveries for one more attempt: one at once, a range piece by piece. All as palomar_worker.

A range is a row of `webhook_replays`: a million deliveries are not marked by one call. The clock marks a piece of it at
each tick. Pending and waiting deliveries are in no range, for they come by themselves; nor are tests, nor what an
erasure has emptied.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.store.webhook_deliveries import turns
from shared.store.webhook_deliveries.log import FAILED

MOST_COUNTED: Final = 20_000  # deliveries of a range; beyond, it says that there are more
MOST_RANGES: Final = 10  # of a webhook, under way

# A test is sent as it is stored, once more too.
_ONE = """
UPDATE webhook_logs
SET replay_at = now(), replay_kind = CASE WHEN metadata ? 'test' THEN 'test' ELSE 'replay' END
WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3 AND NOT metadata ? 'erased' RETURNING id
"""
_AGAIN: Final = "(success IS NOT NULL OR held = 'missed') AND NOT metadata ?| ARRAY['test', 'erased']"


def _count(only: str) -> str:
    return f"""
SELECT count(*) FILTER (WHERE {_AGAIN}) AS found, count(*) > {MOST_COUNTED} AS is_more FROM (
    SELECT success, held, metadata FROM webhook_logs
    WHERE tenant_id = $1 AND webhook_id = $2 AND created_at >= $3 AND created_at < $4 AND {only}
    LIMIT {MOST_COUNTED + 1}) AS counted
"""


_COUNTS: Final = {True: _count(FAILED), False: _count("true")}
_OPEN = "SELECT count(*) FROM webhook_replays WHERE tenant_id = $1 AND webhook_id = $2"
_ADD = """
INSERT INTO webhook_replays (tenant_id, webhook_id, since, until, only_failed) VALUES ($1, $2, $3, $4, $5)
"""
# A tenant's second range comes after every other tenant's first one.
_NEXT = """
SELECT r.tenant_id, r.webhook_id, r.id, since, until, only_failed, after_at, after_id
FROM (
    SELECT tenant_id, webhook_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY worked_at) AS place, worked_at
    FROM webhook_replays ORDER BY place, worked_at LIMIT $1
) AS next
JOIN webhook_replays r USING (tenant_id, webhook_id, id)
ORDER BY r.tenant_id, r.webhook_id, r.id FOR NO KEY UPDATE OF r SKIP LOCKED
"""


# Several rows of the log are locked in the order of their ids, by all who do, so that nobody waits in a circle.
def _mark(only: str) -> str:
    return f"""
WITH piece AS (
    SELECT id, created_at FROM webhook_logs
    WHERE tenant_id = $1 AND webhook_id = $2 AND created_at >= $3 AND created_at < $4
        AND (created_at, id) > ($5, $6) AND {only}
    ORDER BY created_at, id LIMIT $7
), locked AS (
    SELECT l.id FROM webhook_logs l JOIN piece USING (id)
    WHERE l.tenant_id = $1 AND {_AGAIN}
    ORDER BY l.id FOR NO KEY UPDATE OF l
), marked AS (
    UPDATE webhook_logs l SET replay_at = now(), replay_kind = 'replay'
    FROM locked WHERE l.tenant_id = $1 AND l.id = locked.id RETURNING l.id
)
SELECT (SELECT count(*) FROM marked) AS marked, count(*) OVER () AS read, created_at, id
FROM piece ORDER BY created_at DESC, id DESC LIMIT 1
"""


_MARKS: Final = {True: _mark(FAILED), False: _mark("true")}
_MOVE = """
UPDATE webhook_replays SET after_at = $4, after_id = $5, worked_at = clock_timestamp()
WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3
"""
_DONE = "DELETE FROM webhook_replays WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3"


@dataclass(frozen=True, slots=True)
class Range:
    """Deliveries of a webhook that are to be sent again, and the last one that is marked."""

    tenant_id: UUID
    webhook_id: UUID
    id: UUID
    since: datetime
    until: datetime
    only_failed: bool
    after_at: datetime | None
    after_id: UUID | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many deliveries a range has, counted up to MOST_COUNTED."""

    found: int
    is_more: bool


async def one(connection: Connection, tenant_id: UUID, webhook_id: UUID, log_id: UUID) -> bool:
    """Mark a delivery, and make its webhook due; whether this webhook has such a one that no erasure has emptied."""
    if await connection.fetchval(_ONE, tenant_id, webhook_id, log_id) is None:
        return False
    await turns.wake(connection, tenant_id, webhook_id)  # its row is locked after the log's, by all
    return True


async def count(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, since: datetime, until: datetime, *, only_failed: bool
) -> Counted:
    """How many deliveries a range has."""
    row = await connection.fetchrow(_COUNTS[only_failed], tenant_id, webhook_id, since, until)
    assert row is not None
    return Counted(**row)


async def open_ranges(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> int:
    """How many ranges of a webhook are under way."""
    found: int = await connection.fetchval(_OPEN, tenant_id, webhook_id)
    return found


async def add_range(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, since: datetime, until: datetime, *, only_failed: bool
) -> None:
    """Have a range sent again; with `only_failed` what failed or was missed in it."""
    await connection.execute(_ADD, tenant_id, webhook_id, since, until, only_failed)


async def next_ranges(connection: Connection, limit: int) -> list[Range]:
    """The ranges whose turn it is, of each tenant in turn, locked; without those that others hold."""
    return [Range(**row) for row in await connection.fetch(_NEXT, limit)]


async def mark(connection: Connection, work: Range, limit: int) -> int:
    """Mark the next deliveries of a range, of at most `limit` that are read, oldest first; returns how many.

    The webhook is due then. A range that is done is gone.
    """
    after = (work.after_at or work.since, work.after_id or UUID(int=0))
    key = (work.tenant_id, work.webhook_id)
    row = await connection.fetchrow(_MARKS[work.only_failed], *key, work.since, work.until, *after, limit)
    if row is None or row["read"] < limit:
        await connection.execute(_DONE, *key, work.id)
    else:
        await connection.execute(_MOVE, *key, work.id, row["created_at"], row["id"])
    marked: int = 0 if row is None else row["marked"]
    if marked:
        await turns.wake(connection, *key)
    return marked
