"""Palomar behind PgBouncer: it works in session and in transaction mode once configured for it, and else refuses to."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import pytest
from pydantic import SecretStr, ValidationError

from ops import connections
from ops.errors import Problem
from shared import database as db
from shared.database import roles
from shared.settings import Settings
from tests.schema.people import add_tenant, as_worker
from tests.support.ingress import health, ingress
from tests.support.pgbouncer import pooled
from tests.support.ports import free_port
from tests.support.runner_stage import bench, until
from tests.support.stage import Stage, staged
from tests.workers.test_relay import happen, holder, listening

Mode = Literal["session", "transaction"]


def behind(settings: Settings, url: str, mode: Mode) -> Settings:
    """The same system with its database at PgBouncer's URL, configured as docs/operations.md says."""
    return settings.model_copy(
        update={
            "database_url": SecretStr(url),
            "database_direct_url": settings.database_url,
            "database_role_per": "transaction",
            "database_statement_cache": 0 if mode == "transaction" else 100,
        }
    )


@pytest.fixture(params=["session", "transaction"])
def pooling(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    mode: Mode = request.param
    # In session mode a connection to PostgreSQL is a client's until it leaves; in the other, few serve all of them.
    with pooled(settings.database_url.get_secret_value(), mode, servers=30 if mode == "session" else 2) as url:
        yield behind(settings, url, mode)


async def test_a_customer_is_answered_through_it(pooling: Settings) -> None:
    async with (
        staged(pooling, receipts=True) as stage,
        stage.working("relay", "clock", "persist", "persist.receipts", "reply", "window", "send"),
    ):
        await stage.deliver(stage.said("hola", received_at=datetime.now(UTC)))
        await stage.until(stage.statuses, equals=["read"])
        assert len(await stage.bodies()) == 1


async def test_who_listens_is_woken_by_postgresql_itself(pooling: Settings) -> None:
    async with staged(pooling, relay_poll=60) as stage, listening(stage) as listener, stage.working("relay"):
        await stage.until(lambda: _leads(stage), equals=True)
        await happen(stage, "pigeon.landed")
        await stage.until(lambda: _has(listener.names, "pigeon.landed"), equals=True, within=20)


async def _leads(stage: Stage) -> bool:
    return await holder(stage) is not None


async def _has(names: list[object], name: str) -> bool:
    return name in names


async def test_each_pool_works_as_its_role_though_both_share_a_connection(settings: Settings) -> None:
    direct = settings.database_url.get_secret_value()
    with as_worker(direct) as worker:
        mine, theirs = add_tenant(worker), add_tenant(worker)
    with pooled(direct, "transaction", servers=1) as url:
        pooling = behind(settings, url, "transaction")
        async with db.ApiPool(pooling, process="api") as api, db.make_pool(pooling, process="test") as pool:
            for tenant in (mine, theirs):
                async with api.tenant_transaction(tenant.id) as connection:
                    assert await connection.fetchval("SELECT array_agg(id) FROM tenants") == [tenant.id]
                # No transaction is open here, and each of these is one of its own.
                assert await pool.fetchval("SELECT count(*) FROM tenants") == 2
                assert [row["id"] for row in await pool.fetch("SELECT id FROM tenants ORDER BY id = $1", mine.id)] == [
                    theirs.id, mine.id,
                ]  # fmt: skip
                assert await pool.execute("UPDATE tenants SET name = $1", "Otra") == "UPDATE 2"
                row = await pool.fetchrow("SELECT current_user AS role, name FROM tenants LIMIT 1")
                assert row is not None
                assert dict(row) == {"role": "palomar_worker", "name": "Otra"}
                await pool.executemany("UPDATE tenants SET name = $1 WHERE id = $2", [("Una", mine.id)])
            async with pool.acquire() as connection, connection.transaction():
                assert await connection.fetchval("SELECT count(*) FROM tenants WHERE name = 'Una'") == 1
                async with connection.transaction():
                    assert await connection.fetchval("SELECT current_user") == "palomar_worker"


@pytest.mark.parametrize("ignored", ["", "role"], ids=["which refuses the role", "which ignores the role"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pooler_that_gives_no_role_is_refused_with_what_to_set(
    settings: Settings, mode: Mode, ignored: str
) -> None:
    direct = settings.database_url.get_secret_value()
    with as_worker(direct) as worker:
        tenant = add_tenant(worker)
    with pooled(direct, mode, ignored=ignored) as url:
        unaware = settings.model_copy(update={"database_url": SecretStr(url)})
        async with db.make_pool(unaware, process="test") as pool:
            with pytest.raises(roles.WrongRole, match="PALOMAR_DATABASE_ROLE_PER=transaction") as refused:
                await pool.fetchval("SELECT count(*) FROM tenants")
            assert db.is_outage(refused.value)
        async with db.ApiPool(unaware, process="api") as api:
            with pytest.raises(roles.WrongRole):
                async with api.tenant_transaction(tenant.id) as connection:
                    await connection.fetchval("SELECT 1")
        with pytest.raises(roles.WrongRole):
            await db.connect(unaware, process="test")
        with pytest.raises(Problem, match="leads to a pooler"):
            async with connections.database(unaware, "test"):
                pass


async def test_readyz_of_a_worker_says_which_role_it_misses_and_what_to_set(settings: Settings) -> None:
    port = free_port()
    with pooled(settings.database_url.get_secret_value(), "transaction", ignored="role") as url:
        async with bench(settings) as stage, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            stage.settings = settings.model_copy(update={"database_url": SecretStr(url)})
            async with stage.process(module="workers", names=["persist"], port=port):

                async def database() -> str:
                    try:
                        async with http.get("/readyz") as answer:
                            return str((await answer.json())["missing"]["database"])
                    except aiohttp.ClientConnectionError:
                        return ""

                async def is_named() -> bool:
                    return "PALOMAR_DATABASE_ROLE_PER=transaction" in await database()

                await until(is_named, "the setting named")
                assert "and not as palomar_worker" in await database()


async def test_readyz_of_the_ingress_says_which_role_it_misses_and_what_to_set(settings: Settings) -> None:
    async def directory_state(client: aiohttp.ClientSession, kind: str) -> str:
        async with client.get(health(client, "/readyz")) as answer:
            return str((await answer.json()).get(kind, {}).get("directory", ""))

    with pooled(settings.database_url.get_secret_value(), "transaction", ignored="role") as url:
        unaware = settings.model_copy(update={"database_url": SecretStr(url)})
        async with ingress(unaware) as client:
            why = await directory_state(client, "missing")
            assert "and not as palomar_worker" in why
            assert "PALOMAR_DATABASE_ROLE_PER=transaction" in why
        async with ingress(settings) as client:
            assert await directory_state(client, "missing") == await directory_state(client, "warnings") == ""
        async with ingress(unaware) as client:  # which has the copy by now, and takes webhooks
            assert await directory_state(client, "missing") == ""
            assert "PALOMAR_DATABASE_ROLE_PER=transaction" in await directory_state(client, "warnings")


async def test_readyz_says_what_postgresql_refuses(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    elsewhere = SecretStr(urlsplit(url)._replace(path="/none-such").geturl())
    astray = settings.model_copy(update={"database_url": elsewhere})
    async with ingress(astray) as client, client.get(health(client, "/readyz")) as answer:
        missing = (await answer.json())["missing"]
    assert missing["directory"].startswith('PostgreSQL refuses: database "none-such" does not exist')


def test_a_pooler_without_a_way_to_postgresql_itself_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="PALOMAR_DATABASE_DIRECT_URL is missing"):
        Settings(_env_file=None, database_role_per="transaction")
