"""Classifies errors of PostgreSQL: an outage, a conflict that a retry solves, values that can't be stored."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from shared.database import roles

_T = TypeVar("_T")

REPEATS: Final = 5  # attempts of a transaction that lost a deadlock or a serialisation conflict

StatementTimeout: Final = asyncpg.QueryCanceledError  # 57014
LockTimeout: Final = asyncpg.LockNotAvailableError  # 55P03: another session locks rows that the job at hand needs
# A foreign key fails a worker's statement where the row that it refers to was deleted after it was read: two contacts
# were joined, or one was erased. The repeated transaction reads the row that took its place.
_CONFLICTS: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,
)
_OUTAGES: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, restart, crash of another backend, statement timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.InterfaceError,  # the connection was closed while we used it
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,  # connected to a standby after a failover
    asyncpg.IdleInTransactionSessionTimeoutError,  # this process stood still for too long: a suspended machine, say
    roles.WrongRole,  # connected to a pooler that is not set up: the job at hand waits until it is
    OSError,
    TimeoutError,
)


def is_outage(error: BaseException) -> bool:
    """Whether this error means that PostgreSQL is away. An outage is never a failure of the job at hand."""
    # A DataError is a ValueError too: an argument that PostgreSQL can't store, now or later.
    return isinstance(error, _OUTAGES) and not isinstance(error, (asyncpg.QueryCanceledError, ValueError))


def why_away(error: BaseException | None) -> str:
    """Why PostgreSQL does not work for us, as /readyz shows it, with the remedy where the error names one."""
    if isinstance(error, roles.WrongRole):
        return str(error)
    if isinstance(error, asyncpg.PostgresError) and not is_outage(error):  # it answers: a password, a missing role
        return f"PostgreSQL refuses: {error}. Check DATABASE_URL, and bring it up to date with ./palomar migrate"
    return "PostgreSQL does not answer"


def is_postgres(error: BaseException) -> bool:
    """Whether PostgreSQL or its driver raised this error, whose text may then quote values."""
    return isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError))


def is_unstorable(error: BaseException) -> bool:
    """Whether the values themselves can't be stored, so that no repetition helps."""
    kinds = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
    return isinstance(error, (*kinds, ValueError))


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction may simply be repeated: 40P01, 40001 or 23503."""
    return isinstance(error, _CONFLICTS)


async def repeat(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run `work`, which is one transaction, and run it again where it lost a deadlock or a conflict."""
    for attempt in range(REPEATS):
        try:
            return await work()
        except _CONFLICTS:
            if attempt == REPEATS - 1:
                raise
            await asyncio.sleep(0.01 * 2**attempt)
    raise AssertionError("unreachable")
