"""A campaign whose workers are killed with -9: within a lease it goes on, and each recipient has one message."""

import asyncio
import signal
from typing import Any

import pytest

from shared.settings import Settings
from tests.support.campaign_stage import CampaignStage, campaign
from tests.support.stage import staged
from workers.campaign import worker as campaigns

FAST: dict[str, Any] = {"reply": {"engine": "none"}, "rate": 200}
SLOW: dict[str, Any] = {"reply": {"engine": "none"}, "rate": 10}


async def check_once_each(run: CampaignStage) -> None:
    """Each recipient has got one message, and the counters know."""
    assert set((await run.reached()).values()) == {1}
    assert len(await run.reached()) == len(run.numbers)
    assert await run.states() == {"sent": len(run.numbers)}
    await run.check_counters()


@pytest.mark.parametrize("moment", ["campaign step", "campaign stepped", "campaign page", "campaign turn"])
async def test_killed(settings: Settings, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged(settings, SLOW if moment == "campaign turn" else FAST) as stage, stage.working("send", "clock"):
        run = await campaign(stage, 40)
        async with stage.running(moment, "campaign", module="tests.support.dying") as process:
            await run.take("start")
            async with asyncio.timeout(20):
                assert await process.wait() == -signal.SIGKILL
        await stage.configure(FAST)
        async with stage.working("campaign"):
            await stage.until(run.status, equals="completed")
        await check_once_each(run)


async def test_killed_while_it_is_canceled(settings: Settings) -> None:
    async with staged(settings, FAST) as stage, stage.working("clock"):
        run = await campaign(stage, 40)
        async with stage.working("campaign"):
            await run.take("start")
            await stage.until(run.states, equals={"queued": 40})
        async with stage.running("campaign step", "campaign", module="tests.support.dying") as process:
            await run.take("cancel")
            async with asyncio.timeout(20):
                assert await process.wait() == -signal.SIGKILL
        async with stage.working("campaign", "send"):
            await stage.until(run.states, equals={"canceled": 40})
        assert await run.reached() == {}
        assert await stage.count("events WHERE name = 'message.canceled'") == 40
        await run.check_counters()


async def test_two_processes_of_the_worker_share_campaigns_and_write_to_nobody_twice(settings: Settings) -> None:
    async with (
        staged(settings, FAST) as stage,
        stage.running("campaign") as first,
        stage.running("campaign"),
        stage.running("send"),
        stage.running("send"),
        stage.working("clock"),
    ):
        runs = [
            await campaign(stage, numbers=[f"+34610{batch}{number:05}" for number in range(150)]) for batch in range(3)
        ]
        for run in runs:
            await run.take("start")
        await stage.until(runs[0].has_reached, 50, equals=True)
        first.kill()
        for run in runs:
            while await run.status() == "running":
                await run.check_counters()
                await asyncio.sleep(0.1)
        reached = await runs[0].reached()
        assert len(reached) == 450
        assert set(reached.values()) == {1}
        assert [await run.states() for run in runs] == [{"sent": 150}] * 3


async def test_a_job_that_comes_late_takes_no_step_beside_the_one_in_hand(settings: Settings) -> None:
    async with staged(settings, FAST) as stage:
        run = await campaign(stage, 5)
        moved = await run.take("start")
        await stage.pool.execute("UPDATE campaigns SET due_at = now() + interval '5 seconds'")
        await campaigns.work(moved.jobs[0], stage.context)
        assert await stage.count("campaign_recipients") == 0
