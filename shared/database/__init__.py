"""PostgreSQL: connection pools, the role a connection works as, repeated transactions, and the watch for outages."""

from shared.database.ids import new_id
from shared.database.json_codec import UNREADABLE, decode_json
from shared.database.outages import (
    REPEATS,
    LockTimeout,
    StatementTimeout,
    is_conflict,
    is_outage,
    is_postgres,
    is_unstorable,
    repeat,
    why_away,
)
from shared.database.pool import LOCK_WAIT, ApiPool, Connection, Pool, as_worker, connect, make_pool
from shared.database.watch import DatabaseWatch

__all__ = [
    "LOCK_WAIT",
    "REPEATS",
    "UNREADABLE",
    "ApiPool",
    "Connection",
    "DatabaseWatch",
    "LockTimeout",
    "Pool",
    "StatementTimeout",
    "as_worker",
    "connect",
    "decode_json",
    "is_conflict",
    "is_outage",
    "is_postgres",
    "is_unstorable",
    "make_pool",
    "new_id",
    "repeat",
    "why_away",
]
