"""Secrets of one tenant's that can't be sealed take no other tenant's turn; a session writes none that are sealed."""

import time
from uuid import UUID

import asyncpg
import pytest

from shared import database
from shared.settings import Settings
from shared.store import channel_endpoints
from tests.support.stage import Ours, Stage, staged
from tests.workers.test_locks import holding
from tests.workers.test_locks_clock import worker_context
from tests.workers.test_sealing import GIVEN, by_sql, opened, writing
from workers.clock import sealing, tasks, worker

BATCH = 5  # of the clock's
BROKEN = "v1.lost.AAAA"


async def first_of_all(stage: Stage) -> Ours:
    """A tenant whose id comes before all others'."""
    tenant_id = UUID(int=1)
    await stage.pool.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Primera')", tenant_id)
    return Ours(tenant_id, database.new_id(), database.new_id(), "whatsapp", "")


async def unsealable(stage: Stage, theirs: Ours, count: int) -> None:
    """So many channels whose old secrets don't open, so that no new ones are added to them."""
    await stage.pool.execute(
        """WITH made AS (
            INSERT INTO channels (tenant_id, provider, kind, address, credentials, status, status_reason)
            SELECT $1, 'meta', 'whatsapp', 'broken-' || n, $3, 'stopped', sealing_reason()
            FROM generate_series(1, $2) AS n RETURNING tenant_id, id)
        INSERT INTO unsealed_credentials (tenant_id, channel_id, secrets) SELECT tenant_id, id, '{}' FROM made""",
        *(theirs.tenant_id, count, BROKEN),
    )


async def seal(stage: Stage) -> None:
    await worker.run_task("credentials", tasks.TASKS["credentials"], stage.context)


async def test_secrets_that_cannot_be_sealed_take_no_other_tenants_turn(settings: Settings) -> None:
    async with staged(settings, clock_batch=BATCH) as stage:
        await unsealable(stage, await first_of_all(stage), 4 * BATCH)
        await by_sql(stage, writing())
        await seal(stage)
        assert await opened(stage) == GIVEN


async def test_secrets_that_cannot_be_sealed_take_no_turn_of_their_own_tenant_for_long(settings: Settings) -> None:
    async with staged(settings, clock_batch=BATCH) as stage:
        await unsealable(stage, stage.ours, 4 * BATCH)
        await by_sql(stage, writing())
        for _ in range(5):
            await seal(stage)
        assert await opened(stage) == GIVEN
        assert await stage.count("unsealed_credentials WHERE due_at > now() + interval '50 seconds'") == 4 * BATCH
        await stage.pool.execute("UPDATE unsealed_credentials SET due_at = now()")
        await stage.pool.execute("UPDATE channels SET credentials = '' WHERE credentials = $1", BROKEN)
        for _ in range(4):
            await seal(stage)
        assert await stage.count("unsealed_credentials") == 0


async def test_a_lock_of_one_tenants_makes_sealing_wait_once_and_the_others_are_sealed(settings: Settings) -> None:
    """Its channels are free, and what is to be deleted once they are sealed is not."""
    async with staged(settings) as stage, worker_context(stage) as ctx:
        theirs, stage.ours = stage.ours, await stage.add_channel()
        for number in range(4):
            stage.ours, theirs = theirs, stage.ours
            await by_sql(stage, writing(f"theirs-{number}"))
            stage.ours, theirs = theirs, stage.ours
        await by_sql(stage, writing())
        async with holding(stage, theirs, "DELETE FROM unsealed_credentials WHERE tenant_id = $1"):
            started = time.monotonic()
            await worker.run_task("credentials", tasks.TASKS["credentials"], ctx)
            assert time.monotonic() - started < 2 * database.LOCK_WAIT
            assert await opened(stage) == GIVEN


async def test_webhook_secrets_that_cannot_be_sealed_take_no_other_tenants_turn(settings: Settings) -> None:
    async with staged(settings, clock_batch=BATCH) as stage:
        theirs = await first_of_all(stage)
        await stage.pool.execute(
            """WITH made AS (
                INSERT INTO webhooks (tenant_id, url)
                SELECT $1, 'https://a.example/' || n FROM generate_series(1, $2) AS n RETURNING tenant_id, id)
            INSERT INTO unsealed_webhook_secrets (tenant_id, webhook_id, secret) SELECT tenant_id, id, 's' FROM made""",
            *(theirs.tenant_id, 4 * BATCH),
        )
        await by_sql(stage, "INSERT INTO webhooks (url, secret) VALUES ('https://shop.example', 'ours')")
        await worker.run_task("webhook_secrets", tasks.TASKS["webhook_secrets"], stage.context)
        assert await stage.count("unsealed_webhook_secrets WHERE tenant_id = $1", stage.ours.tenant_id) == 0


async def test_numbers_that_cannot_be_served_take_no_other_tenants_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_endpoints, "SERVED_AT_ONCE", BATCH)
    async with staged(settings) as stage:
        await unsealable(stage, await first_of_all(stage), 4 * BATCH)
        await by_sql(stage, writing())
        await seal(stage)
        await stage.pool.execute("UPDATE channels SET endpoint_id = NULL WHERE address = '1065403'")
        async with stage.pool.acquire() as connection, connection.transaction():
            served, after = await sealing.serve_channels(connection, stage.settings, "meta")
        assert served == 0
        async with stage.pool.acquire() as connection, connection.transaction():
            assert await sealing.serve_channels(
                connection, stage.settings, "meta", after or channel_endpoints.FIRST
            ) == (
                1,
                None,
            )


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE channels SET credentials = '{BROKEN}'",
        "UPDATE channels SET credentials = ''",
        "INSERT INTO channels (provider, kind, address, credentials) "
        f"VALUES ('meta', 'whatsapp', '1065499', '{BROKEN}')",
        "INSERT INTO unsealed_credentials (channel_id, secrets, due_at) SELECT id, '{}', '0100-01-01' FROM channels",
    ],
)
async def test_what_is_sealed_and_when_it_is_tried_is_not_a_sessions_to_write(
    settings: Settings, statement: str
) -> None:
    async with staged(settings) as stage:
        before = await stage.value("SELECT credentials FROM channels")
        with pytest.raises((asyncpg.CheckViolationError, asyncpg.InsufficientPrivilegeError)) as refused:
            await by_sql(stage, statement)
        if isinstance(refused.value, asyncpg.CheckViolationError):
            assert "credentials: only Palomar writes" in str(refused.value)
            assert "palomar channels set ID --credentials" in str(refused.value.hint)
        assert await stage.value("SELECT credentials FROM channels") == before
