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
