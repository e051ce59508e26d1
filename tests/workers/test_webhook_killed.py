"""A worker is killed at each moment of a delivery: every event arrives under one id, and the log has every attempt."""

import pytest

from shared.settings import Settings
from tests.support.webhook_stage import WORKERS, hooked

MOMENTS = (
    "webhook matching",
    "webhook matched",
    "webhook handing",
    "webhook claimed",
    "webhook noted",
    "webhook answered",
    "webhook recording",
    "webhook recorded",
    "webhook released",
)


# A webhook with something due gets all by a job of its own; else matching makes the first attempts.
BY_JOB = tuple(moment for moment in MOMENTS if moment != "webhook handing")
_DUE = "INSERT INTO webhook_health (tenant_id, webhook_id, due_at) VALUES ($1, $2, now())"


@pytest.mark.parametrize(
    ("moment", "by_job"), [*((moment, False) for moment in MOMENTS), *((moment, True) for moment in BY_JOB)]
)
async def test_every_event_arrives_under_one_id_though_the_worker_is_killed(
    settings: Settings, moment: str, by_job: bool
) -> None:
    async with hooked(settings) as hooks:
        shop = await hooks.add("/shop")
        if by_job:
            await hooks.stage.pool.execute(_DUE, shop.tenant_id, shop.id)
        await hooks.happen(3)
        async with (
            hooks.stage.working("clock"),
            hooks.stage.running(moment, "webhook", module="tests.support.dying") as process,
        ):
            assert await process.wait() == -9
        await hooks.stage.pool.execute("UPDATE webhook_health SET held_until = now(), due_at = now()")
        await hooks.stage.pool.execute("UPDATE webhook_cursor SET held_until = now()")
        await hooks.stage.pool.execute("UPDATE webhook_logs SET due_at = now() WHERE due_at IS NOT NULL")
        async with hooks.stage.working(*WORKERS):
            await shop.until(delivered=3)
        log = await shop.log()
        received = shop.received()
        assert {one.id for one in received} == {str(row["id"]) for row in log}
        assert sorted(set(shop.numbers())) == [1, 2, 3]
        noted = [attempt for row in log for attempt in row["attempts"]]
        assert len(noted) >= len(received), "each attempt is noted before it is made"
        assert sum(attempt["ended_at"] is not None for attempt in noted) >= 3
        assert all(row["attempt_count"] == 1 for row in log), "those without an end don't count"
