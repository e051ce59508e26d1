"""events and relay_cursor: what happened, in the transaction in which it happened, and how far it was told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from shared.db import Connection, Pool
from shared.messages import EventHappened

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
    """Write events in the caller's transaction; the relay publishes them in commit order."""
    if not events:
        return
    await connection.execute(
        _RECORD,
        [event.name for event in events],
        [event.tenant_id for event in events],
        [event.channel_id for event in events],
        [event.conversation_id for event in events],
        [event.message_id for event in events],
        [event.contact_id for event in events],
        [event.detail for event in events],
    )


_CURSOR = "SELECT xid::text, seq FROM relay_cursor"

# Only what every running transaction is younger than: a lower (xid, seq) can't appear behind the cursor any more.
# `e.xid`: a bare `xid` in ORDER BY is the column of the answer, which is text, and "10" sorts before "9".
_NEXT = """
SELECT e.xid::text, seq, name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail, created_at
FROM events e
WHERE (e.xid, seq) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY e.xid, e.seq LIMIT $3
"""

_MOVE = "UPDATE relay_cursor SET xid = $1::text::xid8, seq = $2, moved_at = now()"

_LAG = """
SELECT coalesce(extract(epoch FROM now() - min(e.created_at)), 0)::float8
FROM events e, relay_cursor c WHERE (e.xid, e.seq) > (c.xid, c.seq)
"""


_LEAD = "SELECT pg_try_advisory_lock($1)"


async def lead(connection: Connection, lock: int) -> bool:
    """Become the one active relay, for as long as this connection lives. False: another one is."""
    leading: bool = await connection.fetchval(_LEAD, lock)
    return leading


async def cursor(connection: Connection) -> tuple[int, int]:
    """(xid, seq) up to which everything is published."""
    row = await connection.fetchrow(_CURSOR)
    assert row is not None, "relay_cursor has its one row from the migration"
    return int(row["xid"]), row["seq"]


async def after(connection: Connection, xid: int, seq: int, limit: int) -> list[EventHappened]:
    """The next events in an order that never skips one that commits later."""
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
    # Whoever may insert an event may have put anything there; it must not stop everybody else's.
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
    """The place of the next event, whatever stands in its row; None where there is none."""
    row = await connection.fetchrow(_PLACE, str(xid), seq)
    return None if row is None else (int(row["xid"]), row["seq"])


async def move_cursor(connection: Connection, xid: int, seq: int) -> None:
    """Everything up to here is confirmed by the broker."""
    await connection.execute(_MOVE, str(xid), seq)


async def lag(pool: Pool) -> float:
    """Age in seconds of the oldest event not yet published; 0 where there is none."""
    return float(await pool.fetchval(_LAG))
