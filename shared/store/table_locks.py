"""Which sessions hold locks on whole tables, for `palomar status`.

A role that may change a table's rows may also lock the whole table, for everyone.
"""

from dataclasses import dataclass

from shared.database import Pool

# A worker may not see what other sessions do, only that they exist and what they have locked.
_HOLDERS = """
SELECT l.pid, a.usename AS role, array_agg(DISTINCT c.relname::text ORDER BY c.relname::text) AS tables
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
GROUP BY l.pid, a.usename ORDER BY l.pid LIMIT 10
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that keeps all others from writing to these tables, or even from reading them."""

    pid: int
    role: str | None  # that it logged in as
    tables: tuple[str, ...]


async def holders(pool: Pool) -> list[Holder]:
    """The sessions that hold such a lock in this database, ten at most."""
    return [Holder(row["pid"], row["role"], tuple(row["tables"])) for row in await pool.fetch(_HOLDERS)]
