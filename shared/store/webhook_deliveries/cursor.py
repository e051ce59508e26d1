"""webhook_cursor and webhook_behind: how far events are matched with webhooks, and whose are matched apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.event_cursor import Place
from shared.domain.webhooks.matching import TRIGGERED
from shared.store.event_feed import COLUMNS, StoredEvent, event_of

_LEAD = """
UPDATE webhook_cursor SET holder = $1, held_until = now() + $2::interval
WHERE holder IS NULL OR holder = $1 OR held_until < now() RETURNING xid::text, seq
"""
_LEAVE = "UPDATE webhook_cursor SET holder = NULL, held_until = NULL WHERE holder = $1"
_MOVE = """
UPDATE webhook_cursor SET xid = $1::text::xid8, seq = $2, moved_at = now(), held_until = now() + $4::interval
WHERE holder = $3 RETURNING true
"""
_LOCK = "SELECT FROM webhook_cursor FOR NO KEY UPDATE"
# Only events older than every running transaction: no lower (xid, seq) can appear behind the cursor any more. Of what
# nobody waits for only the last row is read, as the end of what was looked at: a tenant without a webhook, one whose
# events are matched apart, and what is told of deliveries, of which there are as many, where no webhook names it.
_NEXT = f"""
SELECT * FROM (
    SELECT {COLUMNS}, row_number() OVER place AS looked_at, lead(e.seq) OVER place IS NULL AS is_last,
        tenant_id <> ALL($5::uuid[]) AND EXISTS (
            SELECT FROM webhooks w WHERE w.tenant_id = e.tenant_id AND w.deleted_at IS NULL AND w.is_active
                AND (e.name <> 'webhook.triggered' OR '{TRIGGERED}' = ANY(w.events))) AS is_wanted
    FROM (
        SELECT * FROM events e
        WHERE (e.xid, e.seq) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY e.xid, e.seq LIMIT $3
    ) AS e
    WINDOW place AS (ORDER BY e.xid, e.seq)
) AS next WHERE is_wanted OR is_last ORDER BY looked_at LIMIT $4
"""
_OF_TENANT = f"""
SELECT {COLUMNS} FROM events e
WHERE tenant_id = $1 AND (e.xid, e.seq) > ($2::text::xid8, $3) AND (e.xid, e.seq) <= ($4::text::xid8, $5)
ORDER BY e.xid, e.seq LIMIT $6
"""
_PLACE = """
SELECT e.xid::text, e.seq FROM events e
WHERE (e.xid, e.seq) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.xid, e.seq LIMIT 1
"""
_PLACE_OF_TENANT = """
SELECT e.xid::text, e.seq FROM events e WHERE tenant_id = $1 AND (e.xid, e.seq) > ($2::text::xid8, $3)
ORDER BY e.xid, e.seq LIMIT 1
"""
_BEHIND = """
SELECT tenant_id, xid::text, seq, retry_at <= now() AS is_due, in_vain FROM webhook_behind ORDER BY retry_at, tenant_id
"""
_FALL_BEHIND = """
INSERT INTO webhook_behind (tenant_id, xid, seq) VALUES ($1, $2::text::xid8, $3) ON CONFLICT DO NOTHING
"""
_GO_ON = """
UPDATE webhook_behind SET xid = $2::text::xid8, seq = $3, retry_at = now(), in_vain = 0 WHERE tenant_id = $1
"""
_CAUGHT_UP = "DELETE FROM webhook_behind WHERE tenant_id = $1"
_RETRY = "UPDATE webhook_behind SET retry_at = now() + $2::interval, in_vain = in_vain + 1 WHERE tenant_id = $1"


@dataclass(frozen=True, slots=True)
class Next:
    """The next events that a webhook may want, in their order."""

    events: Sequence[StoredEvent]
    end: Place | None  # up to here nobody wants another one; None: there was none at all
    is_full: bool  # there may be more


@dataclass(frozen=True, slots=True)
class Behind:
    """A tenant whose events are matched apart: those behind the place."""

    tenant_id: UUID
    place: Place
    is_due: bool
    in_vain: int  # attempts in a row


async def lead(connection: Connection, holder: UUID, lease: timedelta) -> Place | None:
    """Become or stay the process that matches, for `lease`; returns the place up to which all is matched.

    None: another process does it.
    """
    row = await connection.fetchrow(_LEAD, holder, lease)
    return None if row is None else (int(row["xid"]), row["seq"])


async def leave(pool: Pool, holder: UUID) -> None:
    """Release the cursor, so that another process can go on at once."""
    await pool.execute(_LEAVE, holder)


async def lock(connection: Connection) -> None:
    """Lock the cursor before what events are about is read: an erasure waits for it (see erased.py)."""
    await connection.execute(_LOCK)


async def move(connection: Connection, holder: UUID, lease: timedelta, place: Place) -> bool:
    """Note, in the transaction that matched them, that all events up to here are. False: another process does it."""
    return await connection.fetchval(_MOVE, str(place[0]), place[1], holder, lease) is not None


async def after(connection: Connection, place: Place, looked_at: int, limit: int, apart: Iterable[UUID]) -> Next:
    """The next events, in an order that never skips an event that commits later: at most `limit` of the next
    `looked_at`. Without those of tenants that are matched `apart`, and without what no webhook waits for."""
    rows = await connection.fetch(_NEXT, str(place[0]), place[1], looked_at, limit, sorted(apart))
    if not rows:
        return Next((), None, False)
    last = rows[-1]
    events = [event_of(row) for row in rows if row["is_wanted"]]
    return Next(events, (int(last["xid"]), last["seq"]), last["looked_at"] >= looked_at or len(rows) >= limit)


async def of_tenant(
    connection: Connection, tenant_id: UUID, after: Place, up_to: Place, limit: int
) -> list[StoredEvent]:
    """The next events of one tenant between two places."""
    rows = await connection.fetch(_OF_TENANT, tenant_id, str(after[0]), after[1], str(up_to[0]), up_to[1], limit)
    return [event_of(row) for row in rows]


async def place_after(connection: Connection, place: Place) -> Place | None:
    """The place of the next event, whatever its row holds; None where there is none."""
    row = await connection.fetchrow(_PLACE, str(place[0]), place[1])
    return None if row is None else (int(row["xid"]), row["seq"])


async def place_of_tenant_after(connection: Connection, tenant_id: UUID, place: Place) -> Place | None:
    """The same of one tenant's next event."""
    row = await connection.fetchrow(_PLACE_OF_TENANT, tenant_id, str(place[0]), place[1])
    return None if row is None else (int(row["xid"]), row["seq"])


async def behind(connection: Connection) -> Sequence[Behind]:
    """The tenants whose events are matched apart, that first whose turn it is."""
    return [
        Behind(row["tenant_id"], (int(row["xid"]), row["seq"]), row["is_due"], row["in_vain"])
        for row in await connection.fetch(_BEHIND)
    ]


async def fall_behind(connection: Connection, tenant_id: UUID, place: Place) -> None:
    """Match a tenant's events behind this place apart."""
    await connection.execute(_FALL_BEHIND, tenant_id, str(place[0]), place[1])


async def go_on(connection: Connection, tenant_id: UUID, place: Place) -> None:
    """Note how far a tenant's events are matched that are matched apart."""
    await connection.execute(_GO_ON, tenant_id, str(place[0]), place[1])


async def caught_up(connection: Connection, tenant_id: UUID) -> None:
    """Match a tenant's events with all others' again."""
    await connection.execute(_CAUGHT_UP, tenant_id)


async def retry_later(connection: Connection, tenant_id: UUID, wait: timedelta) -> None:
    """Try to match a tenant's events apart again, after `wait`."""
    await connection.execute(_RETRY, tenant_id, wait)
