"""PostgreSQL: the pool, the role a process takes, transactions, and what counts as the database being away."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from uuid_utils.compat import uuid7

from shared.database import roles
from shared.database.options import server_settings, set_tcp_options, tls
from shared.database.roles import Role
from shared.process import metrics
from shared.process.database_url import TcpOptions, parse
from shared.process.log import get_logger
from shared.process.outage_log import OutageLog
from shared.resilience import lock_waits
from shared.settings import Settings

log = get_logger(__name__)

if TYPE_CHECKING:  # generic in the stubs only
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection | PoolConnectionProxy
    Pool = asyncpg.Pool
_T = TypeVar("_T")

CONNECT_TIMEOUT: Final = 5.0  # seconds, where DATABASE_URL names no connect_timeout
STATEMENT_TIMEOUT: Final = 30.0  # seconds; nothing on the path takes a hundredth of it
# Seconds that a worker's statement waits for a lock: nobody of ours holds one for a tenth of it. Longer than the
# deadlock_timeout of PostgreSQL, 1 s, so that a deadlock is told as one.
LOCK_WAIT: Final = 1.5
PROBE_TIMEOUT: Final = 5.0  # seconds
REPEATS: Final = 5  # of a transaction that lost a deadlock or a serialisation conflict

LockTimeout: Final = asyncpg.LockNotAvailableError  # 55P03: of the item at hand, whose rows somebody holds
# A foreign key fails a worker's statement where the row that it names went away since it was read: two contacts were
# joined, or somebody was erased. Read again, there is another one.
_CONFLICTS: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,
)
_OUTAGES: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, restart, crash of a neighbour, statement timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.InterfaceError,  # the connection closed under us
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,  # connected to a standby after a failover
    asyncpg.IdleInTransactionSessionTimeoutError,  # we stood still for too long: the machine was suspended, perhaps
    roles.WrongRole,  # connected to a pooler that is not set up: the item at hand waits until it is
    OSError,
    TimeoutError,
)


def new_id() -> UUID:
    """UUIDv7, made by the application: time-ordered, so that indexes grow at one end."""
    return uuid7()


def is_outage(error: BaseException) -> bool:
    """Whether this says that PostgreSQL is away, which is never a failure of the item at hand."""
    # A DataError is a ValueError too: an argument that PostgreSQL can't take, which no waiting mends.
    return isinstance(error, _OUTAGES) and not isinstance(error, (asyncpg.QueryCanceledError, ValueError))


def why_away(error: BaseException | None) -> str:
    """What keeps PostgreSQL from working for us, as /readyz says it: with the remedy where the error names one."""
    if isinstance(error, roles.WrongRole):
        return str(error)
    if isinstance(error, asyncpg.PostgresError) and not is_outage(error):  # it answers: a password, a missing role
        return f"PostgreSQL refuses: {error}. Check DATABASE_URL, and bring it up to date with ./palomar migrate"
    return "PostgreSQL does not answer"


def is_postgres(error: BaseException) -> bool:
    """Whether PostgreSQL (or its driver) said so: its sentences may quote values."""
    return isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError))


def is_unstorable(error: BaseException) -> bool:
    """Whether the values themselves are what can't be stored, so that no repetition helps."""
    kinds = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
    return isinstance(error, (*kinds, ValueError))


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction may simply be repeated: 40P01, 40001 or 23503."""
    return isinstance(error, _CONFLICTS)


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]", *, tcp: TcpOptions, role: Role) -> None:
    set_tcp_options(connection, tcp)
    await roles.check(connection, role)
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=_encode_json, decoder=decode_json, schema="pg_catalog", format="text"
        )


UNREADABLE: Final = "unreadable JSON"  # stands for a value that PostgreSQL takes and Python does not


def decode_json(text: str) -> Any:
    """JSON as PostgreSQL stores it, more than Python reads: 1e400 is infinite, and what is nested too deeply is
    `UNREADABLE`. Raises nothing: that would fail all rows of an answer, of every tenant."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text, parse_int=_read_integer)
        except (ValueError, RecursionError):
            return UNREADABLE


def _read_integer(digits: str) -> int | float:
    """As orjson reads one: of more than 64 bits it is a float."""
    return int(digits) if len(digits) < 19 else float(digits)


def _encode_json(value: object) -> str:
    return orjson.dumps(value).decode()


def make_pool(settings: Settings, *, process: str, size: int | None = None, lock_wait: float | None = None) -> Pool:
    """A worker's pool that has not connected yet: `await pool` (or `async with`) does, and raises where it can't.

    Statements that have waited `lock_wait` seconds for a lock raise LockTimeout.
    """
    # A worker leaves nothing on a session (it listens and locks on connections of its own, by `connect`), and asyncpg
    # rolls back what is open in any case. Asking the server for more costs a round trip after each commit, before what
    # it hands on is published.
    own = {} if lock_wait is None else {"lock_timeout": f"{lock_wait * 1000:.0f}"}
    return _make_pool(settings, process, "palomar_worker", size, reset=_rolled_back, own=own)


def _make_pool(
    settings: Settings,
    process: str,
    role: Role,
    size: int | None,
    reset: "Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]] | None",
    own: Mapping[str, str],
) -> Pool:
    per_transaction = settings.database_role_per == "transaction"
    how = roles.per_transaction if per_transaction else roles.per_connection
    address = parse(settings.database_url.get_secret_value())
    return asyncpg.create_pool(
        address.dsn,
        min_size=0,
        max_size=size or settings.database_pool,
        command_timeout=STATEMENT_TIMEOUT,
        timeout=address.connect_timeout or CONNECT_TIMEOUT,
        ssl=tls(address.system_roots),
        max_inactive_connection_lifetime=300,
        statement_cache_size=settings.database_statement_cache,
        connect=roles.connect,
        init=partial(_prepare, tcp=address.tcp, role=role),
        # Behind a pooler nothing is left on a session, and what resets one would reset somebody else's.
        reset=_rolled_back if per_transaction else reset,
        setup=_for_the_item_at_hand,
        **how({**server_settings(settings, role, process), **own}),
    )


async def _for_the_item_at_hand(_: PoolConnectionProxy) -> None:
    """Of a tenant who holds locks: those of its items that wait for a connection need none. Raises Locked."""
    lock_waits.give_way()


async def _rolled_back(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What is left to reset once asyncpg has rolled back."""


async def connect(
    settings: Settings, *, process: str, role: Role = "palomar_worker"
) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection of one's own to PostgreSQL itself, for LISTEN and advisory locks."""
    address = parse(settings.database_session_url)
    connection = await roles.connect(
        address.dsn,
        timeout=address.connect_timeout or CONNECT_TIMEOUT,
        ssl=tls(address.system_roots),
        command_timeout=STATEMENT_TIMEOUT,
        **roles.per_connection(server_settings(settings, role, process)),
    )
    try:
        await _prepare(connection, tcp=address.tcp, role=role)
    except BaseException:
        connection.terminate()
        raise
    return connection


class ApiPool:
    """Connections that see one tenant's rows and no others. There is no other way to use them than for a tenant.

        async with ApiPool(settings, process="api") as pool, pool.tenant_transaction(tenant_id) as connection: ...

    The database would show nothing to a statement without a tenant; here nobody can even ask.
    """

    def __init__(self, settings: Settings, *, process: str, size: int | None = None) -> None:
        # Here a session stands for a tenant, so the server is asked to reset it, each time it is given back.
        self._role: Final[Role] = "palomar_api"
        self._pool = _make_pool(settings, process, self._role, size, reset=None, own={})

    async def __aenter__(self) -> "ApiPool":
        """Raises where the database does not answer in time or refuses."""
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def tenant_transaction(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        """A transaction of this tenant. Its end, committed or not, takes the tenant off the connection.

        Raises roles.WrongRole where a pooler has given us a connection that works as another role.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            stands_for = "SELECT current_user FROM set_config('app.tenant_id', $1, true)"
            roles.require(self._role, await connection.fetchval(stands_for, str(tenant_id)))
            yield connection


async def repeat(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run a piece of work that is one transaction; run it again where it lost a deadlock or a conflict."""
    for attempt in range(REPEATS):
        try:
            return await work()
        except _CONFLICTS:
            if attempt == REPEATS - 1:
                raise
            await asyncio.sleep(0.01 * 2**attempt)
    raise AssertionError("unreachable")


class DatabaseWatch:
    """Knows whether PostgreSQL answers; lets work wait while it does not.

    `lost` is told by whoever met an outage; the watch then asks every second until there is an answer again.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._up = asyncio.Event()
        self._outage = OutageLog()
        self._last: BaseException | None = None  # what the last outage began with, or its last probe met
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._up.is_set()

    @property
    def trouble(self) -> str | None:
        """Why work waits; None where the database answers."""
        return None if self.up else why_away(self._last)

    def lost(self, error: BaseException | None = None) -> None:
        """Stop work until the database answers."""
        if self._task is None or self._task.done():
            if error is not None:
                self._log_outage(error)
            self._up.clear()
            metrics.DATABASE_UP.set(0)
            self._task = asyncio.create_task(self._probe(), name="database watch")

    async def wait(self) -> None:
        """Return once the database answers."""
        if not self._up.is_set() and self._task is None:
            self.lost()
        await self._up.wait()

    async def answers(self) -> bool:
        """Whether the database answers now, to tell a statement that took too long from an outage."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await self._pool.fetchval("SELECT 1")
        except Exception:
            return False
        return True

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _probe(self) -> None:
        delay = 0.1
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT):
                    await self._pool.fetchval("SELECT 1")
            except Exception as error:  # whatever it is: a probe that ended without an answer would leave all waiting
                self._log_outage(error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
            else:
                self._up.set()
                metrics.DATABASE_UP.set(1)
                log.info("database answers", away_for=self._outage.ended() or 0.0)
                return

    def _log_outage(self, error: BaseException) -> None:
        self._last = error
        if (lasted := self._outage.failed()) is not None:
            log.warning("database away", error=type(error).__name__, detail=str(error)[:200], away_for=lasted)
