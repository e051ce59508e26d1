"""The pool of the API gives connections to one tenant at a time."""

from collections.abc import Iterable

import asyncpg
import pytest

from shared import database
from shared.settings import Settings
from tests.schema.furnishing import furnish
from tests.schema.people import as_worker


def public(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("_")]


async def test_the_apis_pool_can_only_be_used_for_a_tenant(settings: Settings) -> None:
    with as_worker(settings.database_url.get_secret_value()) as worker:
        mine, theirs = furnish(worker, "mine"), furnish(worker, "theirs")
    names = "SELECT array_agg(name) FROM contacts"
    async with database.ApiPool(settings, process="test", size=1) as api:
        assert public(dir(api)) == ["tenant_transaction"]
        async with api.tenant_transaction(theirs.id) as kept:
            assert await kept.fetchval(names) == ["theirs"]
        with pytest.raises(asyncpg.InterfaceError):
            await kept.fetchval(names)  # kept beyond its transaction
        async with api.tenant_transaction(mine.id) as connection:
            assert await connection.fetchval(names) == ["mine"]
            assert await connection.fetchval("SELECT current_user") == "palomar_api"


async def test_a_transaction_is_of_its_tenant_whatever_its_session_was_before(settings: Settings) -> None:
    with as_worker(settings.database_url.get_secret_value()) as worker:
        mine, theirs = furnish(worker, "mine"), furnish(worker, "theirs")
    async with database.ApiPool(settings, process="test", size=1) as api:
        async with api.tenant_transaction(theirs.id) as connection:
            await connection.execute("SELECT set_config('app.tenant_id', $1, false)", str(theirs.id))
            await connection.execute("SET ROLE palomar_worker")
        async with api.tenant_transaction(mine.id) as connection:
            assert await connection.fetchval("SELECT current_user") == "palomar_api"
            assert await connection.fetchval("SELECT array_agg(name) FROM contacts") == ["mine"]


async def fails_as_worker(connection: database.Connection, statement: str) -> None:
    async with database.as_worker(connection):
        await connection.execute(statement)
        raise ValueError


async def test_a_block_as_worker_ends_with_the_role_and_the_tenant_that_it_began_with(settings: Settings) -> None:
    with as_worker(settings.database_url.get_secret_value()) as worker:
        mine = furnish(worker, "mine")
        furnish(worker, "theirs")
    role, names = "SELECT current_user", "SELECT array_agg(name ORDER BY name) FROM contacts"
    async with database.ApiPool(settings, process="test", size=1) as api:
        async with api.tenant_transaction(mine.id) as connection:
            async with database.as_worker(connection):
                assert await connection.fetchval(role) == "palomar_worker"
                assert await connection.fetchval(names) == ["mine", "theirs"]
            assert await connection.fetchval(role) == "palomar_api"
            for wrong in ("SELECT 1 / 0", "SELECT 1"):
                with pytest.raises((asyncpg.DivisionByZeroError, ValueError)):
                    await fails_as_worker(connection, wrong)
                assert await connection.fetchval(role) == "palomar_api"
            assert await connection.fetchval(names) == ["mine"]
        async with api.tenant_transaction(mine.id) as connection, database.as_worker(connection):
            pass
        async with api.tenant_transaction(mine.id) as connection:
            assert await connection.fetchval(role) == "palomar_api"
