"""events and relay_cursor: records events in the transaction that causes them, and how far the relay has published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from shared.database import Connection, Pool
from shared.queue.jobs import EventHappened

Detail = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `detail` holds codes and numbers, never a message's text or an address."""

    name: str
    tenant_id: UUID
    channel_id: UUID | None = None
    conversation_id: UUID | None = None
    message_id: UUID | None = None
    contact_id: UUID | None = None
    detail: Detail = field(default_factory=dict)


_RECORD = """
INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::jsonb[])
"""


async def record(connection: Connection, *events: Event) -> None:
    """Write events in the caller's transaction; the relay publishes them in commit order.

    Each call is a statement, and wakes who listens for events: a transaction collects its events and calls this once.
    """
    if events:
        await connection.execute(_RECORD, *columns(events))


def columns(events: Sequence[Event]) -> tuple[Sequence[object], ...]:
    """The events as columns, in the order of `_RECORD`."""
    return (
        [event.name for event in events],
        [event.tenant_id for event in events],
        [event.channel_id for event in events],
        [event.conversation_id for event in events],
        [event.message_id for event in events],
        [event.contact_id for event in events],
        [event.detail for event in events],
    )


# Only events older than every running transaction: no lower (xid, seq) can appear behind the cursor any more.
# `e.xid`: a bare `xid` in ORDER BY is the column of the answer, which is text, and "10" sorts before "9".
_NEXT = """
SELECT e.xid::text, seq, name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail, created_at
FROM events e
WHERE (e.xid, seq) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.xid, e.seq LIMIT $3
"""

_MOVE = """
UPDATE relay_cursor SET xid = $1::text::xid8, seq = $2, moved_at = now(), held_until = now() + $4::interval
WHERE holder = $3 RETURNING true
"""

# The next event to be published; one look-up in each day's index.
_OLDEST = """
SELECT extract(epoch FROM clock_timestamp() - e.created_at)::float8 FROM events e
WHERE (e.xid, e.seq) > ((SELECT xid FROM relay_cursor), (SELECT seq FROM relay_cursor))
ORDER BY e.xid, e.seq LIMIT 1
"""

_LEAD = """
UPDATE relay_cursor SET holder = $1, held_until = now() + $2::interval
WHERE holder IS NULL OR holder = $1 OR held_until < now() RETURNING xid::text, seq
"""

_LEAVE = "UPDATE relay_cursor SET holder = NULL, held_until = NULL WHERE holder = $1"


async def lead(connection: Connection, holder: UUID, lease: timedelta) -> tuple[int, int] | None:
    """Become or stay the active relay for `lease`; returns (xid, seq) up to which all is published.

    None: another relay is active.
    """
    row = await connection.fetchrow(_LEAD, holder, lease)
    return None if row is None else (int(row["xid"]), row["seq"])


async def leave(pool: Pool, holder: UUID) -> None:
    """Release the cursor, so that another relay can become active at once."""
    await pool.execute(_LEAVE, holder)


async def after(connection: Connection, xid: int, seq: int, limit: int) -> list[EventHappened]:
    """The next events, in an order that never skips an event that commits later."""
    rows = await connection.fetch(_NEXT, str(xid), seq, limit)
    return [
        EventHappened(
            xid=int(row["xid"]),
            seq=row["seq"],
            name=row["name"],
            tenant_id=row["tenant_id"],
            occurred_at=row["created_at"],
            channel_id=row["channel_id"],
            conversation_id=row["conversation_id"],
            message_id=row["message_id"],
            contact_id=row["contact_id"],
            detail=_scalars(row["detail"]),
        )
        for row in rows
    ]


def _scalars(detail: object) -> dict[str, str | int | float | bool | None]:
    # A client with SQL access may have written anything there; it must not stop the events of others.
    if not isinstance(detail, dict):
        return {}
    return {
        str(name): value
        for name, value in detail.items()
        if value is None or isinstance(value, (str, int, float, bool))
    }


_PLACE = """
SELECT e.xid::text, e.seq FROM events e
WHERE (e.xid, e.seq) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.xid, e.seq LIMIT 1
"""


async def place_after(connection: Connection, xid: int, seq: int) -> tuple[int, int] | None:
    """(xid, seq) of the next event, whatever its row holds; None where there is none."""
    row = await connection.fetchrow(_PLACE, str(xid), seq)
    return None if row is None else (int(row["xid"]), row["seq"])


async def move_cursor(connection: Connection, holder: UUID, lease: timedelta, xid: int, seq: int) -> bool:
    """Note that the broker has confirmed every event up to here. False: another relay is active by now."""
    return await connection.fetchval(_MOVE, str(xid), seq, holder, lease) is not None


async def lag(connection: Connection | Pool) -> float:
    """Age in seconds of the oldest event that is not published; 0 where all are."""
    return max(0.0, await connection.fetchval(_OLDEST) or 0.0)
