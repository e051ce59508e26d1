"""A look before each page of a campaign: automatic pauses, waves, two templates, Meta's limit, and progress."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.actions import campaign_life
from shared.settings import Settings
from shared.store.campaigns import tier
from shared.store.campaigns.life import Pause
from tests.support.campaign_rows import add_campaign, add_recipients, add_template, campaign_of, move_recipients
from tests.support.stage import Stage, staged
from workers.campaign import looks
from workers.campaign.looks import BY_A_PERSON, Go, Look, Stop, Wait

SILENT: dict[str, Any] = {"reply": {"engine": "none"}}
ONE_WAVE: dict[str, Any] = {"waves": {"shares": []}}


async def counts(stage: Stage, campaign_id: UUID) -> Mapping[tuple[str, int], int]:
    rows = await stage.rows(
        "SELECT status, variant, sum(recipients)::int AS n FROM campaign_counts WHERE campaign_id = $1 GROUP BY 1, 2",
        campaign_id,
    )
    return {(row["status"], row["variant"]): row["n"] for row in rows}


async def look(stage: Stage, campaign_id: UUID) -> Look:
    """A look, and the pause that it asks for, as the worker takes it."""
    seen, channel = await counts(stage, campaign_id), await stage.channel()
    async with stage.pool.acquire() as tx, tx.transaction():
        campaign = await campaign_of(tx, stage, campaign_id, lock=True)
        found = await looks.look(tx, campaign, channel, seen)
        if isinstance(found, Stop):
            await campaign_life.take(tx, stage.ours.tenant_id, campaign_id, "pause", due_at=None, pause=found.pause)
    return found


async def resume(stage: Stage, campaign_id: UUID) -> None:
    async with stage.pool.acquire() as tx, tx.transaction():
        await campaign_life.take(tx, stage.ours.tenant_id, campaign_id, "resume", due_at=datetime.now().astimezone())


@pytest.mark.parametrize(
    ("status", "reason", "of", "paused"),
    [
        ("failed", "131026", 21, "failures"),
        ("failed", "131026", 20, None),
        ("failed", "131049", 6, "blocks"),
        ("failed", "131049", 5, None),
        ("opted_out", None, 6, "opt_outs"),
        ("opted_out", "63014", 6, "blocks"),
        ("held", None, 31, "held"),
    ],
)
async def test_a_campaign_pauses_by_its_outcomes(
    settings: Settings, status: str, reason: str | None, of: int, paused: str | None
) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, settings=ONE_WAVE)
        await add_recipients(stage, campaign, 100 - of, "delivered")
        await add_recipients(stage, campaign, of, status, reason)
        await add_recipients(stage, campaign, 900)
        found = await look(stage, campaign)
        if paused is None:
            assert found == Go(900)
        else:
            assert isinstance(found, Stop)
            assert (found.pause.reason, found.pause.detail["share"]) == (paused, float(of))
            assert found.pause.detail["resume"] == BY_A_PERSON


async def test_after_a_resume_the_old_outcomes_pause_it_no_more_and_new_ones_do(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, settings=ONE_WAVE)
        await add_recipients(stage, campaign, 40, "failed", "131026")
        await add_recipients(stage, campaign, 60, "delivered")
        await add_recipients(stage, campaign, 900)
        assert isinstance(await look(stage, campaign), Stop)
        await move_recipients(stage, campaign, 30, "delivered", "failed", "131026")  # receipts during the pause
        await resume(stage, campaign)
        assert await look(stage, campaign) == Go(900)
        await move_recipients(stage, campaign, 40, "pending", "delivered")
        assert await look(stage, campaign) == Go(860)
        await move_recipients(stage, campaign, 20, "pending", "failed", "131026")
        found = await look(stage, campaign)
        assert isinstance(found, Stop)
        assert (found.pause.reason, found.pause.detail["share"]) == ("failures", 33.3)


async def test_waves_wait_for_a_look_each_and_a_page_never_passes_their_end(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, settings={"waves": {"wait": 300}})
        await add_recipients(stage, campaign, 50, "skipped", "opted_out")
        await add_recipients(stage, campaign, 1000)
        assert await look(stage, campaign) == Go(20)
        await move_recipients(stage, campaign, 15, "pending", "queued")
        assert await look(stage, campaign) == Go(5)
        await move_recipients(stage, campaign, 5, "pending", "queued")
        waits = await look(stage, campaign)
        assert isinstance(waits, Wait)
        assert waits.waiting_for == "wave"
        assert await look(stage, campaign) == waits, "the wait does not begin anew with each look"
        await stage.pool.execute("UPDATE campaigns SET wave_ended_at = wave_ended_at - interval '300 seconds'")
        assert await look(stage, campaign) == Go(80)
        row = await stage.row("SELECT wave, wave_ended_at FROM campaigns")
        assert tuple(row) == (1, None)
        await move_recipients(stage, campaign, 80, "pending", "delivered")
        assert isinstance(await look(stage, campaign), Wait)
        await stage.pool.execute("UPDATE campaigns SET wave_ended_at = wave_ended_at - interval '300 seconds'")
        assert await look(stage, campaign) == Go(900), "then the rest"


async def test_a_wave_that_needs_approval_pauses_and_a_resume_goes_on_with_the_next(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, settings={"waves": {"wait": 0, "approval": True}})
        await add_recipients(stage, campaign, 20, "delivered")
        await add_recipients(stage, campaign, 980)
        found = await look(stage, campaign)
        assert found == Stop(Pause("wave", {"wave": 1, "of": 3, "resume": BY_A_PERSON}))
        assert await stage.value("SELECT paused_reason FROM campaigns") == "wave"
        await resume(stage, campaign)
        assert await look(stage, campaign) == Go(80)


async def test_a_small_campaign_is_one_wave(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage)
        await add_recipients(stage, campaign, 20)
        assert await look(stage, campaign) == Go(20)


async def test_a_stopped_channel_pauses_its_campaign(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage)
        await add_recipients(stage, campaign, 20)
        await stage.pool.execute("UPDATE channels SET status = 'stopped'")
        found = await look(stage, campaign)
        assert isinstance(found, Stop)
        assert found.pause.reason == "channel_stopped"
        await stage.pool.execute("UPDATE channels SET status = 'active'")
        await resume(stage, campaign)
        assert await look(stage, campaign) == Go(20)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("status = 'paused'", "paused"),
        ("status = 'rejected'", "rejected"),
        ("status = 'gone'", "gone"),
        ("is_active = false", "inactive"),
        ("deleted_at = now()", "deleted"),
    ],
)
async def test_a_template_that_cant_be_sent_pauses_its_campaign(settings: Settings, change: str, status: str) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, template=await add_template(stage))
        await add_recipients(stage, campaign, 20)
        assert await look(stage, campaign) == Go(20)
        await stage.pool.execute(f"UPDATE message_templates SET {change}")
        found = await look(stage, campaign)
        assert isinstance(found, Stop)
        assert found.pause.reason == "template_paused"
        assert (found.pause.detail["template"], found.pause.detail["status"]) == ("offer", status)


async def test_the_better_template_goes_to_the_rest_and_the_other_one_counts_no_more(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        first, second = await add_template(stage), await add_template(stage, name="other")
        compared = {"template_id": str(second), "by": "replied", "at_least": 100}
        campaign = await add_campaign(stage, template=first, settings={**ONE_WAVE, "comparison": compared})
        await add_recipients(stage, campaign, 90, "delivered", variant=0)
        await add_recipients(stage, campaign, 10, "replied", variant=0)
        await add_recipients(stage, campaign, 65, "delivered", variant=1)
        await add_recipients(stage, campaign, 34, "replied", variant=1)
        await add_recipients(stage, campaign, 500)
        assert await look(stage, campaign) == Go(500), "one outcome is missing"
        await add_recipients(stage, campaign, 1, "replied", variant=1)
        assert await look(stage, campaign) == Go(500, winner=1)
        assert await stage.value("SELECT winner FROM campaigns") == 1
        await stage.pool.execute("UPDATE message_templates SET status = 'paused' WHERE id = $1", first)
        assert await look(stage, campaign) == Go(500, winner=1)


async def test_two_templates_without_a_difference_are_compared_once_until_there_are_twice_as_many(
    settings: Settings,
) -> None:
    async with staged(settings, SILENT) as stage:
        first, second = await add_template(stage), await add_template(stage, name="other")
        compared = {"template_id": str(second), "by": "replied", "at_least": 100}
        campaign = await add_campaign(stage, template=first, settings={**ONE_WAVE, "comparison": compared})
        for variant in (0, 1):
            await add_recipients(stage, campaign, 100, "delivered", variant=variant)
        await add_recipients(stage, campaign, 500)
        assert await look(stage, campaign) == Go(500)
        assert await stage.value("SELECT looks FROM campaigns") == {"compared": 1}
        await move_recipients(stage, campaign, 40, "delivered", "replied")  # by chance all of one side
        assert await look(stage, campaign) == Go(500), "no look in between"


async def test_a_campaign_keeps_to_the_messaging_limit_of_its_portfolio(settings: Settings) -> None:
    limited = SILENT | {"meta": {"messaging_limit": 50, "portfolio": "Shop"}}
    async with staged(settings, limited) as stage:
        campaign = await add_campaign(stage, template=await add_template(stage), settings=ONE_WAVE)
        await add_recipients(stage, campaign, 100)
        assert await look(stage, campaign) == Go(50)
        talks = [await stage.converse(customer=f"+34600{n:06}") for n in range(50)]
        tenant = stage.ours.tenant_id
        async with stage.pool.acquire() as tx, tx.transaction():
            await tier.use(tx, tenant, "Shop", talks[:48])
            await tier.use(tx, tenant, "Shop", talks[:48])  # the same people count once
        assert await look(stage, campaign) == Go(2)
        async with stage.pool.acquire() as tx, tx.transaction():
            await tier.use(tx, tenant, "Shop", talks[48:])
            await tx.execute("UPDATE messaging_uses SET last_at = last_at - interval '23 hours 55 minutes'")
        waits = await look(stage, campaign)
        assert isinstance(waits, Wait)
        assert waits.waiting_for == "messaging_limit"
        left = waits.until - await stage.value("SELECT now()")
        assert timedelta(minutes=4) < left <= timedelta(minutes=5)
        await stage.pool.execute("UPDATE messaging_uses SET last_at = last_at - interval '5 minutes'")
        assert await look(stage, campaign) == Go(50), "a day later all of it is free again"
        assert await stage.count("messaging_uses") == 0


async def test_two_campaigns_never_use_one_limit_at_the_same_time(settings: Settings) -> None:
    async with staged(settings, SILENT | {"meta": {"messaging_limit": 50}}) as stage:
        campaign = await add_campaign(stage, template=await add_template(stage), settings=ONE_WAVE)
        await add_recipients(stage, campaign, 100)
        async with stage.pool.acquire() as other, other.transaction():
            assert await tier.lock(other, stage.ours.tenant_id, str(stage.ours.id))
            waits = await look(stage, campaign)
            assert isinstance(waits, Wait)
        assert await look(stage, campaign) == Go(50)


async def test_progress_is_noted_with_an_event_at_most_every_two_seconds(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, settings=ONE_WAVE)
        await add_recipients(stage, campaign, 100)
        for _ in range(3):
            await look(stage, campaign)
        assert await stage.count("events WHERE name = 'campaign.progress'") == 1
        await move_recipients(stage, campaign, 40, "pending", "queued")
        await stage.pool.execute(
            "UPDATE campaigns SET progress = progress || jsonb_build_object('at', now() - interval '10 seconds')"
        )
        await look(stage, campaign)
        stored = await stage.value("SELECT progress FROM campaigns")
        assert (stored["done"], stored["left"], stored["waiting_for"]) == (40, 60, None)
        assert stored["rate"] == pytest.approx(4.0, abs=0.1)
        event = await stage.value(
            "SELECT detail FROM events WHERE name = 'campaign.progress' ORDER BY seq DESC LIMIT 1"
        )
        assert (event["pending"], event["queued"], event["campaign_id"]) == (60, 40, str(campaign))
        remaining = datetime.fromisoformat(event["eta"]) - datetime.fromisoformat(stored["at"])
        assert remaining.total_seconds() == pytest.approx(15, abs=1)
