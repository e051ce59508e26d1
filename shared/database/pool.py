"""Opens connections to PostgreSQL: a worker's pool, the API's pool of one tenant at a time, and single sessions."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from shared.database import roles
from shared.database.json_codec import decode_json, encode_json
from shared.database.options import server_settings, set_tcp_options, tls
from shared.database.roles import Role
from shared.process.database_url import TcpOptions, parse
from shared.resilience import lock_waits
from shared.settings import Settings

if TYPE_CHECKING:  # generic in the stubs only
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection | PoolConnectionProxy
    Pool = asyncpg.Pool

CONNECT_TIMEOUT: Final = 5.0  # seconds, where DATABASE_URL names no connect_timeout
STATEMENT_TIMEOUT: Final = 30.0  # seconds; no statement between webhook and send takes a hundredth of it
# Seconds that a worker's statement waits for a lock. Our own transactions hold none for a tenth of it. It is longer
# than the deadlock_timeout of PostgreSQL, 1 s, so that a deadlock is reported as a deadlock.
LOCK_WAIT: Final = 1.5

# Of a statement, for all arguments: the plan that tests/schema/test_plans*.py try. To plan a page of a list takes
# longer than to read it, and a plan for certain arguments trusts statistics, which know nothing of the newest rows.
_ONE_PLAN: Final = "force_generic_plan"
_SET_ROLE: Final = "SELECT set_config('role', $1, true)"


def make_pool(settings: Settings, *, process: str, size: int | None = None, lock_wait: float | None = None) -> Pool:
    """A worker's pool that has not connected yet: `await pool` (or `async with`) does, and raises where it can't.

    A statement that has waited `lock_wait` seconds for a lock raises LockTimeout.
    """
    # A worker leaves no state on a session: it listens and takes advisory locks on sessions of their own (`connect`),
    # and asyncpg rolls back an open transaction in any case. A full reset would cost a round trip after each commit,
    # before the commit's jobs are published.
    return _make_pool(settings, process, "palomar_worker", size, own=_lock_timeout(lock_wait))


async def connect(
    settings: Settings, *, process: str, role: Role = "palomar_worker"
) -> "asyncpg.Connection[asyncpg.Record]":
    """A session of the caller's own with PostgreSQL itself, past any pooler, for LISTEN and advisory locks."""
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
    """Connections that see one tenant's rows and no others. They can only be used for a tenant.

        async with ApiPool(settings, process="api") as pool, pool.tenant_transaction(tenant_id) as connection: ...

    The database shows no row to a statement without a tenant; this class has no way to run such a statement.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        process: str,
        size: int | None = None,
        lock_wait: float | None = None,
        patience: float | None = None,
        statement_timeout: float | None = None,
    ) -> None:
        """A statement that has waited `lock_wait` seconds for a lock raises LockTimeout, and one that has taken
        `statement_timeout` seconds StatementTimeout; a transaction that has waited `patience` seconds for a connection
        raises TimeoutError."""
        # No session carries a tenant: each transaction sets its own, and takes it along at its end. See make_pool.
        self._patience = patience
        own = _lock_timeout(lock_wait) | _statement_timeout(statement_timeout) | {"plan_cache_mode": _ONE_PLAN}
        self._pool = _make_pool(settings, process, "palomar_api", size, of_tenants=True, own=own)

    async def __aenter__(self) -> "ApiPool":
        """Raises where the database does not answer in time or refuses."""
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def tenant_transaction(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        """A transaction of this tenant, as palomar_api. Its end, committed or not, takes both off the connection.

        Raises roles.WrongRole where a pooler gives us connections that work as another role.
        """
        async with asyncio.timeout(self._patience):  # acquire's own timeout would make a task of each call
            connection = await self._pool.acquire()
        try:
            roles.next_tenant(connection, tenant_id)
            async with connection.transaction():
                yield connection
        finally:
            await self._pool.release(connection)


@asynccontextmanager
async def as_worker(connection: Connection) -> AsyncIterator[None]:
    """Run a block of the caller's transaction as palomar_worker, who sees every tenant's rows and writes secrets.

    Each statement in it names its tenant. An error rolls the block back, and with it the role.
    """
    role = await connection.fetchval("SELECT current_user::text")
    async with connection.transaction():
        await connection.execute(_SET_ROLE, "palomar_worker")
        yield
        await connection.execute(_SET_ROLE, role)


def _make_pool(
    settings: Settings,
    process: str,
    role: Role,
    size: int | None,
    *,
    own: Mapping[str, str],
    of_tenants: bool = False,
) -> Pool:
    how = roles.per_transaction if settings.database_role_per == "transaction" else roles.per_connection
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
        # Our sessions hold no state, and behind a pooler a reset would hit the session of another client.
        reset=_no_reset,
        setup=_give_way_to_locks,
        **how({**server_settings(settings, role, process), **own}, of_tenants=of_tenants),
    )


def _lock_timeout(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"lock_timeout": f"{seconds * 1000:.0f}"}


def _statement_timeout(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"statement_timeout": f"{seconds * 1000:.0f}"}


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]", *, tcp: TcpOptions, role: Role) -> None:
    set_tcp_options(connection, tcp)
    await roles.check(connection, role)
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=encode_json, decoder=decode_json, schema="pg_catalog", format="text"
        )


async def _give_way_to_locks(_: PoolConnectionProxy) -> None:
    """Raises Locked where the tenant of the job at hand turned out to hold locks while the job waited for a connection.

    Its job then needs no connection: it would only wait for the same lock.
    """
    lock_waits.give_way()


async def _no_reset(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Takes the place of asyncpg's reset query; asyncpg itself has rolled back what was open."""
