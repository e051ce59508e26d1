"""A campaign's life: each recipient at most once, paused at once, resumed with exactly those that are left."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.sandbox.meta_forms import PHONE_NUMBER_ID
from shared.actions import campaign_life
from shared.settings import Settings
from shared.store.messages import sends
from tests.support.campaign_stage import TEMPLATE, campaign
from tests.support.meta_stage import add_app, add_number
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


async def test_a_canceled_campaign_sends_nothing_more_and_each_recipient_has_an_end(settings: Settings) -> None:
    async with staged(settings, SLOW) as stage, stage.working(*EVERY):
        run = await campaign(stage, 40)
        await run.take("start")
        await stage.until(run.has_reached, 3, equals=True)
        await run.take("cancel")
        await stage.until(run.is_over, equals=True)
        sent = await run.reached()
        assert 3 <= len(sent) < 20
        assert await run.states() == {"sent": len(sent), "canceled": 40 - len(sent)}
        await run.check_counters()
        row = await stage.row("SELECT status, due_at, sent_count FROM campaigns")
        assert (row["status"], row["due_at"], row["sent_count"]) == ("canceled", None, len(sent))


async def test_over_meta_a_scheduled_campaign_begins_at_its_time(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working(*EVERY):
        ours = await add_number(stage, await add_app(stage), PHONE_NUMBER_ID, channel=FAST)
        run = await campaign(stage, 10, ours=ours)
        await run.take("schedule", at=datetime.now(UTC) + timedelta(seconds=1.5))
        await asyncio.sleep(0.5)
        assert await run.states() == {}
        await stage.until(run.status, equals="completed")
        assert await run.reached() == Counter(number.lstrip("+") for number in run.numbers)
        names = [one["name"] for one in await stage.rows("SELECT name FROM events WHERE name LIKE 'campaign.%'")]
        steps = sorted(name for name in names if name != "campaign.progress")
        assert steps == ["campaign.completed", "campaign.created", "campaign.running", "campaign.scheduled"]


async def test_no_claim_follows_the_commit_of_a_pause(settings: Settings) -> None:
    """A claim that has begun delays the pause; one that begins while the pause is about to commit waits for it."""
    async with staged(settings, FAST) as stage:
        run = await campaign(stage, 2)
        async with stage.working("campaign"):
            await run.take("start")
            await stage.until(run.states, equals={"queued": 2})
        channel = await stage.channel()
        first, second = [
            await sends.head(stage.pool, row["tenant_id"], row["conversation_id"], "bulk")
            for row in await stage.rows("SELECT tenant_id, conversation_id FROM messages")
        ]
        assert first is not None
        assert second is not None
        lease = timedelta(seconds=5)
        async with stage.pool.acquire() as connection:
            async with connection.transaction():
                await campaign_life.pause(connection, run.ours.tenant_id, run.id)
                claim = asyncio.create_task(sends.claim(stage.pool, first, channel, lease))
                await asyncio.sleep(0.3)
                assert not claim.done()
            assert await claim is None
        assert await sends.claim(stage.pool, second, channel, lease) is None
        await run.take("resume")
        async with stage.pool.acquire() as connection:
            async with connection.transaction():
                assert await connection.fetchval(
                    "SELECT campaign_sends(tenant_id, id) FROM campaign_recipients LIMIT 1"
                )
                pause = asyncio.create_task(run.take("pause"))
                await asyncio.sleep(0.3)
                assert not pause.done()
            await pause


async def test_a_resend_of_an_unknown_message_is_the_recipients(settings: Settings) -> None:
    async with staged(settings, FAST, send_timeout=0.5, send_lease_margin=0.5) as stage:
        run = await campaign(stage, 1, settings={"held_wait": 1})
        async with stage.working("campaign", "clock", "window"):
            await run.take("start")
            await stage.until(run.states, equals={"queued": 1})
            async with stage.running("claimed", "send", module="tests.support.dying") as process:
                await process.wait()
            await stage.until(run.states, equals={"unknown": 1})
            assert await run.status() == "running"
            async with stage.working("send"):
                await stage.until(run.states, equals={"sent": 1})
                await run.nudge()
                await stage.until(run.status, equals="completed")
        assert await run.reached() == {run.numbers[0].lstrip("+"): 1}
        assert await stage.count("messages") == 2
        await run.check_counters()
