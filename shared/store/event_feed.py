"""events: reads what happened behind a place in their order, of one tenant or of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.domain.event_cursor import IDENTITY_BYTES, LAST, LONGEST_TRANSACTION, Cursor, Place


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row. `detail` is what was recorded, which a tenant's SQL session may have done."""

    place: Place
    name: str
    tenant_id: UUID
    channel_id: UUID | None
    conversation_id: UUID | None
    message_id: UUID | None
    contact_id: UUID | None
    detail: Any
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """The order of events as it is now."""

    identity: bytes  # of the database and its history: another one after a restore or a fail-over
    horizon: int  # every transaction below has ended: no event will appear there any more
    settled: Place  # behind all their events; it is so after a crash, too
    today: date  # UTC
    oldest: date  # events of this day and later are stored

    @property
    def end(self) -> Cursor:
        """Behind every event that is settled."""
        return Cursor(self.identity, self.today, self.settled)

    @property
    def first_day(self) -> date:
        """From this day on a cursor is good: what lies behind it is stored."""
        return self.oldest + LONGEST_TRANSACTION


# The timeline changes when a standby is promoted, which may lack the last transactions of its former primary; the
# database's number when a dump is restored; the system's when the whole server is another one; the epoch by the command
# that is run after any other restore.
_ORDER = """
SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database,
    left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline,
    (SELECT epoch FROM event_epoch) AS epoch,
    pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
    (clock_timestamp() AT TIME ZONE 'UTC')::date AS today,
    (SELECT min(to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD')) FROM pg_inherits
        WHERE inhparent = 'events'::regclass AND inhrelid::regclass::text ~ '_[0-9]{8}$') AS oldest
"""

# PostgreSQL gives the number of a transaction anew where it crashes before anything of it is on the disk: of one that
# was rolled back a moment ago. A client that went on behind such a number would never get the events of its next
# transaction. What is surely on the disk is the newest event, and whatever was before the last checkpoint.
_SETTLED = """
SELECT greatest(
    (SELECT least($1::text::bigint, (split_part(next_xid, ':', 1)::bigint << 32)
        + split_part(next_xid, ':', 2)::bigint) - 1 FROM pg_control_checkpoint()),
    (SELECT e.xid::text::bigint FROM events e
        WHERE e.xid < $1::text::xid8
            AND e.created_at > now() - interval '2 days' AND e.created_at < now() + interval '1 day'
        ORDER BY e.xid DESC, e.seq DESC LIMIT 1))
"""

_HORIZON = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, (clock_timestamp() AT TIME ZONE 'UTC')::date"

COLUMNS: Final = (
    "e.xid::text, seq, name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail, created_at"
)
_OF_TENANT = f"""
SELECT {COLUMNS} FROM events e
WHERE tenant_id = $1 AND (e.xid, e.seq) > ($2::text::xid8, $3) AND e.xid < $4::text::xid8
ORDER BY e.xid, e.seq LIMIT $5
"""
_OF_TENANTS = f"""
SELECT {COLUMNS} FROM events e
WHERE (e.xid, e.seq) > ($2::text::xid8, $3) AND e.xid < $4::text::xid8 AND tenant_id = ANY($1)
ORDER BY e.xid, e.seq LIMIT $5
"""
_FIRST = """
SELECT e.xid::text, seq FROM events e WHERE tenant_id = $1 AND created_at >= $2 ORDER BY e.xid, e.seq LIMIT 1
"""
_MORE_THAN = """
SELECT count(*) FROM (
    SELECT FROM events e WHERE tenant_id = $1 AND (e.xid, e.seq) > ($2::text::xid8, $3) AND e.xid < $4::text::xid8
    LIMIT $5 + 1
) AS missed
"""


async def order(connection: Connection, days: int) -> Order:
    """The order of events as it is now; they are stored for `days`."""
    row = await connection.fetchrow(_ORDER)
    assert row is not None
    named = f"{row['system']} {row['database']} {row['timeline']} {row['epoch']}"
    today: date = row["today"]
    # What lies in the default partition is deleted by its age, whichever days' partitions are still there.
    by_age = today - timedelta(days=days)
    return Order(
        sha256(named.encode()).digest()[:IDENTITY_BYTES],
        int(row["horizon"]),
        await settled(connection, int(row["horizon"])),
        today,
        max(by_age, row["oldest"] or by_age),
    )


async def horizon(connection: Connection) -> tuple[int, date]:
    """Below which transaction no event will appear any more, and the day (UTC)."""
    row = await connection.fetchrow(_HORIZON)
    assert row is not None
    return int(row[0]), row[1]


async def settled(connection: Connection, horizon: int) -> Place:
    """The place behind all events of transactions below the horizon; it is so after a crash, too."""
    return (await connection.fetchval(_SETTLED, str(horizon)), LAST)


async def place_before(connection: Connection, tenant_id: UUID, day: date) -> Place | None:
    """The place just before a tenant's first event of this day (UTC) or later; None where there is none."""
    row = await connection.fetchrow(_FIRST, tenant_id, datetime(day.year, day.month, day.day, tzinfo=UTC))
    return None if row is None else (int(row["xid"]), row["seq"] - 1)


async def of_tenant(connection: Connection, tenant_id: UUID, after: Place, below: int, limit: int) -> list[StoredEvent]:
    """The next events of a tenant behind a place, of transactions below `below`."""
    rows = await connection.fetch(_OF_TENANT, tenant_id, str(after[0]), after[1], str(below), limit)
    return [event_of(row) for row in rows]


async def of_tenants(
    connection: Connection, tenant_ids: Sequence[UUID], after: Place, below: int, limit: int
) -> list[StoredEvent]:
    """The next events of these tenants behind a place, of transactions below `below`."""
    rows = await connection.fetch(_OF_TENANTS, tenant_ids, str(after[0]), after[1], str(below), limit)
    return [event_of(row) for row in rows]


async def are_more_than(connection: Connection, tenant_id: UUID, after: Place, below: int, most: int) -> bool:
    """Whether a tenant has more than `most` events behind a place."""
    counted: int = await connection.fetchval(_MORE_THAN, tenant_id, str(after[0]), after[1], str(below), most)
    return counted > most


def event_of(row: asyncpg.Record) -> StoredEvent:
    """The event of a row of COLUMNS."""
    return StoredEvent(
        (int(row["xid"]), row["seq"]),
        row["name"],
        row["tenant_id"],
        row["channel_id"],
        row["conversation_id"],
        row["message_id"],
        row["contact_id"],
        row["detail"],
        row["created_at"],
    )
