"""The clock marks ranges of deliveries that are to be sent again, piece by piece and oldest first."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared import database
from shared.queue.jobs import WebhookDue
from shared.settings import Settings
from shared.store.webhook_deliveries import replays
from tests.support.stage import Stage, staged
from workers.clock import webhook_replays

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


async def with_deliveries(stage: Stage, tenant_id: UUID, count: int) -> UUID:
    """A webhook with so many deliveries, a second apart: failed, delivered, missed, pending, and again."""
    webhook_id = database.new_id()
    await stage.pool.execute(
        "INSERT INTO webhooks (id, tenant_id, url) VALUES ($1, $2, 'https://a.example')", webhook_id, tenant_id
    )
    await stage.pool.execute(
        """
        INSERT INTO webhook_logs (tenant_id, webhook_id, event, created_at, success, held, due_at)
        SELECT $1, $2, 'message_received', $3::timestamptz + n * interval '1 second',
            (ARRAY[false, true, NULL, NULL])[n % 4 + 1],
            CASE WHEN n % 4 = 2 THEN 'missed' END, CASE WHEN n % 4 = 3 THEN now() + interval '1 hour' END
        FROM generate_series(0, $4 - 1) AS n""",
        *(tenant_id, webhook_id, NOON, count),
    )
    return webhook_id


async def want(stage: Stage, tenant_id: UUID, webhook_id: UUID, *, only_failed: bool) -> None:
    async with stage.pool.acquire() as connection:
        until = NOON + timedelta(days=1)
        await replays.add_range(connection, tenant_id, webhook_id, NOON, until, only_failed=only_failed)


async def tick(stage: Stage) -> list[WebhookDue]:
    async with stage.pool.acquire() as connection, connection.transaction():
        return [job for job in await webhook_replays.mark(connection) if isinstance(job, WebhookDue)]


async def marked(stage: Stage, webhook_id: UUID) -> list[int]:
    """The seconds past noon of the deliveries that are to be sent again."""
    rows = await stage.pool.fetch(
        "SELECT created_at FROM webhook_logs WHERE webhook_id = $1 AND replay_kind = 'replay' AND replay_at <= now() "
        "ORDER BY created_at",
        webhook_id,
    )
    return [int((row["created_at"] - NOON).total_seconds()) for row in rows]


@pytest.mark.parametrize(("only_failed", "kinds"), [(True, {0, 2}), (False, {0, 1, 2})])
async def test_each_delivery_of_a_range_is_marked_once_oldest_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, only_failed: bool, kinds: set[int]
) -> None:
    monkeypatch.setattr(webhook_replays, "PIECE", 10)
    async with staged(settings) as stage:
        tenant_id = stage.ours.tenant_id
        webhook_id = await with_deliveries(stage, tenant_id, 40)
        await want(stage, tenant_id, webhook_id, only_failed=only_failed)
        expected = [n for n in range(40) if n % 4 in kinds]
        seen: list[int] = []
        while await stage.count("webhook_replays"):
            jobs = await tick(stage)
            found = await marked(stage, webhook_id)
            assert found == expected[: len(found)], "a younger one does not come before an older one"
            assert len(found) - len(seen) <= 10
            assert bool(jobs) == (len(found) > len(seen))
            seen = found
        assert seen == expected
        assert await stage.count("webhook_health WHERE webhook_id = $1 AND due_at <= now()", webhook_id) == 1


async def test_a_tenant_with_many_ranges_takes_no_other_tenants_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_replays, "PIECE", 2)
    async with staged(settings) as stage:
        theirs = stage.ours.tenant_id
        for _ in range(webhook_replays.RANGES + 5):
            await want(stage, theirs, await with_deliveries(stage, theirs, 8), only_failed=True)
        tenant_id = (await stage.add_channel()).tenant_id
        webhook_id = await with_deliveries(stage, tenant_id, 8)
        await want(stage, tenant_id, webhook_id, only_failed=True)
        await tick(stage)
        assert await marked(stage, webhook_id) == [0, 2]


async def test_a_delivery_that_is_locked_is_not_forgotten(settings: Settings) -> None:
    async with staged(settings, database_idle_in_transaction=0) as stage:
        tenant_id = stage.ours.tenant_id
        webhook_id = await with_deliveries(stage, tenant_id, 8)
        await want(stage, tenant_id, webhook_id, only_failed=True)
        async with stage.pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM webhook_logs WHERE webhook_id = $1 ORDER BY id FOR UPDATE", webhook_id)
            async with stage.pool.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '50ms'")
                assert await webhook_replays.mark(connection) == []
        assert await marked(stage, webhook_id) == []
        await tick(stage)
        assert await marked(stage, webhook_id) == [0, 2, 4, 6]
