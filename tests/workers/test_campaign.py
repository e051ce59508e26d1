"""A campaign's life: each recipient at most once, paused at once, resumed with exactly those that are left."""

import asyncio
from typing import Any

from shared.settings import Settings
from tests.support.campaign_stage import TEMPLATE, campaign
from tests.support.stage import staged

FAST: dict[str, Any] = {"reply": {"engine": "none"}, "rate": 200}
SLOW: dict[str, Any] = {"reply": {"engine": "none"}, "rate": 10}
EVERY = ("campaign", "send", "clock", "persist")


async def test_each_recipient_gets_the_template_once_with_variables_of_their_own(settings: Settings) -> None:
    async with staged(settings, FAST, receipts=True) as stage, stage.working(*EVERY):
        run = await campaign(stage, 30)
        await run.take("start")
        await stage.until(run.status, equals="completed")
        assert set(await run.reached()) == {number.lstrip("+") for number in run.numbers}
        assert set((await run.reached()).values()) == {1}
        seen = await stage.sandbox.messages()
        assert {one.content_sid for one in seen} == {TEMPLATE}
        assert len({one.content_variables for one in seen}) == 30
        await stage.until(run.states, equals={"read": 30})
        await run.check_counters()
        row = await stage.row("SELECT * FROM campaigns")
        assert (row["total_recipients"], row["sent_count"], row["failed_count"]) == (30, 30, 0)
        names = [one["name"] for one in await stage.rows("SELECT name FROM events WHERE name LIKE 'campaign.%'")]
        steps = sorted(name for name in names if name != "campaign.progress")
        assert steps == ["campaign.completed", "campaign.created", "campaign.running"]
        assert await stage.count("events WHERE name = 'message.queued'") == 30
        assert await stage.value("SELECT min(content) FROM messages") == "Hola Ana 0000"


async def test_a_pause_takes_hold_and_resume_goes_on_with_exactly_the_unsent(settings: Settings) -> None:
    async with staged(settings, SLOW) as stage, stage.working(*EVERY):
        run = await campaign(stage, 40)
        await run.take("start")
        await stage.until(run.has_reached, 5, equals=True)
        await run.take("pause")
        await asyncio.sleep(0.5)  # calls in flight
        sent = await run.reached()
        assert 5 <= len(sent) < 20
        await asyncio.sleep(2)
        assert await run.reached() == sent
        assert await stage.count("messages WHERE status = 'sending'") == 0
        await run.check_counters()
        await stage.configure(FAST)
        await run.take("resume")
        await stage.until(run.status, equals="completed")
        assert set((await run.reached()).values()) == {1}
        assert len(await run.reached()) == 40
        assert await stage.count("events WHERE name = 'campaign.paused'") == 1


async def test_start_on_a_paused_campaign_resumes_it_and_a_second_start_changes_nothing(settings: Settings) -> None:
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        run = await campaign(stage, 60)
        await run.take("start")
        await run.take("start")
        await stage.until(run.has_reached, 5, equals=True)
        await run.take("pause")
        await run.take("pause")
        frozen = await stage.count("campaign_recipients")
        await run.take("start")
        await stage.until(run.status, equals="completed")
        assert await stage.count("campaign_recipients") == frozen == 60
        assert set((await run.reached()).values()) == {1}
        assert len(await run.reached()) == 60
        assert await stage.count("events WHERE name = 'campaign.running'") == 2
