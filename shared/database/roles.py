"""The role that a connection works as: taken as it connects, or anew in each transaction.

Who connects as the role of DATABASE_URL sees nothing. A connection to PostgreSQL itself becomes one of our two roles
as it starts, which costs nothing. Behind a pooler, such as PgBouncer, a connection is lent to others between two
transactions, and none of its own start reaches PostgreSQL: there each transaction begins with the role.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import asyncpg

if TYPE_CHECKING:  # generic in the stubs only
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

Role = Literal["palomar_worker", "palomar_api"]
Connecting = Mapping[str, Any]  # arguments of asyncpg.connect and asyncpg.create_pool

_AT_START: Final = ("application_name", "timezone")  # what a pooler takes from a client that connects, and follows


class WrongRole(Exception):
    """A connection does not work as the role that it was opened for; it was not used."""

    def __init__(self, role: str, found: str) -> None:
        super().__init__(
            f"this connection works as {found} and not as {role}: DATABASE_URL leads to a pooler. "
            "Set PALOMAR_DATABASE_ROLE_PER=transaction and PALOMAR_DATABASE_DIRECT_URL (docs/operations.md)"
        )


def per_connection(values: Mapping[str, str]) -> Connecting:
    """How to connect to PostgreSQL itself. `values`, `role` among them, are set at the start and survive RESET ALL."""
    return {"server_settings": dict(values)}


def per_transaction(values: Mapping[str, str]) -> Connecting:
    """How to connect through a pooler. What it takes at no start is set in each transaction, and ends with it."""
    local = {name: value for name, value in values.items() if name not in _AT_START}
    begins = " ".join(f"SET LOCAL {name} = {_quoted(value)};" for name, value in local.items())
    return {
        "server_settings": {name: value for name, value in values.items() if name in _AT_START},
        "connection_class": type("PerTransaction", (_PerTransaction,), {"begins": begins, "__slots__": ()}),
    }


async def connect(*arguments: Any, **options: Any) -> _Connection:
    """asyncpg.connect. Raises WrongRole where a pooler refuses the role that the connection is to start with."""
    try:
        return await asyncpg.connect(*arguments, **options)
    except asyncpg.ProtocolViolationError as error:
        role = options.get("server_settings", {}).get("role")
        if role is None or "startup parameter" not in str(error):
            raise
        raise WrongRole(role, "nobody") from error


async def check(connection: _Connection, role: Role) -> None:
    """Raises WrongRole where it works as another: a pooler may ignore what a connection starts with."""
    require(role, await connection.fetchval("SELECT current_user"))


def require(role: Role, found: str) -> None:
    """Raises WrongRole where the current_user that was found is another."""
    if found != role:
        raise WrongRole(role, found)


class _PerTransaction(_Connection):
    """Begins each transaction with `begins`, and is in one for each statement."""

    __slots__ = ()
    begins: str

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        if query.startswith("BEGIN"):  # asyncpg's own: what is set travels with it, at no further round trip
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


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
