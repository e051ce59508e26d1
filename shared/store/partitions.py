"""Makes the coming days' partitions of events and raw webhooks, and drops old ones."""

from shared.database import Connection

_MAKE = "SELECT make_partitions($1)"
_DROP_EVENTS = "SELECT drop_partitions('events', $1)"
_DROP_STRAY_EVENTS = """
DELETE FROM events WHERE created_at < now() - make_interval(days => $1 + 1) AND (xid, seq, created_at) IN (
    SELECT xid, seq, created_at FROM events WHERE created_at < now() - make_interval(days => $1 + 1) LIMIT $2)
"""


async def lock_briefly(connection: Connection) -> None:
    """Wait at most 250 ms for a lock in this transaction; then a statement raises database.LockTimeout.

    Writers queue behind a transaction that waits for a stronger lock.
    """
    await connection.execute("SET LOCAL lock_timeout = '250ms'")


async def make(connection: Connection, days_ahead: int) -> int:
    """Make the coming days' partitions; returns how many."""
    made: int = await connection.fetchval(_MAKE, days_ahead)
    return made


async def forget_events(connection: Connection, days: int) -> int:
    """Drop the events of days older than so many; returns how many partitions."""
    dropped: int = await connection.fetchval(_DROP_EVENTS, days)
    return dropped


async def forget_stray_events(connection: Connection, days: int, limit: int) -> int:
    """Delete old events of days that had no partition, at most `limit` of them; returns how many."""
    return int((await connection.execute(_DROP_STRAY_EVENTS, days, limit)).split()[-1])
