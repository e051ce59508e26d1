"""Sets the role and the tenant that a connection works for, when it connects or at the start of each transaction.

The role of DATABASE_URL itself sees no rows. A connection to PostgreSQL becomes one of our two roles as it starts,
which costs nothing. A pooler, such as PgBouncer, lends its sessions to other clients between two transactions and
passes on no start-up parameters: there each transaction begins by setting the role.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from uuid import UUID

import asyncpg

if TYPE_CHECKING:  # generic in the stubs only
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

Role = Literal["palomar_worker", "palomar_api"]
Connecting = Mapping[str, Any]  # arguments of asyncpg.connect and asyncpg.create_pool

_AT_START: Final = (
    "application_name",
    "timezone",
)  # start-up parameters that a pooler accepts


class WrongRole(Exception):
    """A connection works as another role than the one it was opened for. No statement of ours ran on it."""

    def __init__(self, role: str, found: str) -> None:
        super().__init__(
            f"this connection works as {found} and not as {role}: DATABASE_URL leads to a pooler. "
            "Set PALOMAR_DATABASE_ROLE_PER=transaction and PALOMAR_DATABASE_DIRECT_URL (docs/operations.md)"
        )


def per_connection(values: Mapping[str, str], *, of_tenants: bool = False) -> Connecting:
    """Arguments to connect to PostgreSQL itself.

    `values`, which hold the `role`, are start-up parameters and survive RESET ALL. With `of_tenants` each transaction
    needs a tenant: see `next_tenant`.
    """
    return {"server_settings": dict(values), **({"connection_class": _OfTenants} if of_tenants else {})}


def per_transaction(values: Mapping[str, str], *, of_tenants: bool = False) -> Connecting:
    """Arguments to connect through a pooler: values that it does not accept at the start are set per transaction."""
    local = {name: value for name, value in values.items() if name not in _AT_START}
    begins = " ".join(f"SET LOCAL {name} = {_quoted(value)};" for name, value in local.items())
    bases = (_OfTenants, _PerTransaction) if of_tenants else (_PerTransaction,)
    return {
        "server_settings": {name: value for name, value in values.items() if name in _AT_START},
        "connection_class": type("PerTransaction", bases, {"begins": begins, "__slots__": ()}),
    }


async def connect(*arguments: Any, **options: Any) -> _Connection:
    """asyncpg.connect, which raises WrongRole where a pooler refuses the role as a start-up parameter."""
    try:
        return await asyncpg.connect(*arguments, **options)
    except asyncpg.ProtocolViolationError as error:
        role = options.get("server_settings", {}).get("role")
        if role is None or "startup parameter" not in str(error):
            raise
        raise WrongRole(role, "nobody") from error


async def check(connection: _Connection, role: Role) -> None:
    """Raises WrongRole where the connection works as another role: a pooler may ignore start-up parameters."""
    require(role, await connection.fetchval("SELECT current_user"))


def require(role: Role, found: str) -> None:
    """Raises WrongRole where `found`, the current_user, is another role."""
    if found != role:
        raise WrongRole(role, found)


class _PerTransaction(_Connection):
    """Starts each transaction with the statements `begins`, and runs each single statement in a transaction."""

    __slots__ = ()
    begins: str

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        if query.startswith("BEGIN"):  # by asyncpg's transaction(): `begins` needs no further round trip
            return await super().execute(f"{query} {self.begins}", **options)
        async with self._in_transaction():
            return await super().execute(query, *args, **options)

    async def executemany(self, *args: Any, **options: Any) -> None:
        async with self._in_transaction():
            await super().executemany(*args, **options)

    async def fetch(self, *args: Any, **options: Any) -> Any:
        async with self._in_transaction():
            return await super().fetch(*args, **options)

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        async with self._in_transaction():
            return await super().fetchrow(*args, **options)

    async def fetchval(self, *args: Any, **options: Any) -> Any:
        async with self._in_transaction():
            return await super().fetchval(*args, **options)

    async def fetchmany(self, *args: Any, **options: Any) -> Any:
        async with self._in_transaction():
            return await super().fetchmany(*args, **options)

    @asynccontextmanager
    async def _in_transaction(self) -> AsyncIterator[None]:
        if self.is_in_transaction():
            yield
        else:
            async with self.transaction():
                yield


class _OfTenants(_Connection):
    """Starts each transaction as palomar_api and with the tenant that was named for it, in the round trip of BEGIN.

    Both are set anew for each transaction and end with it, whatever the session was before. A transaction for which no
    tenant was named sees no rows.
    """

    __slots__ = ("_tenant_id",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tenant_id: UUID | None = None

    def next_tenant(self, tenant_id: UUID) -> None:
        self._tenant_id = tenant_id

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        if query.startswith("BEGIN"):  # by asyncpg's transaction()
            tenant_id, self._tenant_id = self._tenant_id or "", None
            query = f"{query} SET LOCAL ROLE palomar_api; SET LOCAL app.tenant_id = '{tenant_id}';"
        return await super().execute(query, *args, **options)


def next_tenant(connection: object, tenant_id: UUID) -> None:
    """Name the tenant of the transaction that a connection begins next. Its pool was made with `of_tenants`."""
    cast(_OfTenants, connection).next_tenant(tenant_id)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
