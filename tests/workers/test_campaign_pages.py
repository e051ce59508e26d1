"""Which recipients of a campaign get a message now, in which form, and what becomes of the others."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared import database
from shared.settings import Settings
from shared.store.messages import bulk
from tests.support.campaign_stage import CampaignStage, add_contacts, campaign
from tests.support.stage import Stage, staged

FAST: dict[str, Any] = {"reply": {"engine": "none"}, "rate": 200}
EVERY = ("campaign", "send", "clock")
NUMBERS = ("+34600000101", "+34600000102", "+34600000103")


async def opt_out(stage: Stage, run: CampaignStage, contact: UUID) -> None:
    await stage.pool.execute(
        """INSERT INTO consents (id, tenant_id, contact_id, channel_kind, state, source, effective_at, scope)
        VALUES ($1, $2, $3, 'whatsapp', 'opted_out', 'message', now(), 'all')""",
        database.new_id(), run.ours.tenant_id, contact,
    )  # fmt: skip


async def outcome(stage: Stage, contact: UUID) -> tuple[str, str | None]:
    row = await stage.row("SELECT status, reason FROM campaign_recipients WHERE contact_id = $1", contact)
    return row["status"], row["reason"]


async def test_an_opt_out_after_the_start_is_the_last_word(settings: Settings) -> None:
    async with staged(settings, FAST) as stage:
        run = await campaign(stage, 3)
        async with stage.working("campaign"):
            await run.take("start")
            await stage.until(run.states, equals={"queued": 3})
        await opt_out(stage, run, run.contacts[0])
        async with stage.working("send", "clock", "campaign"):
            await stage.until(run.status, equals="completed")
        assert await outcome(stage, run.contacts[0]) == ("skipped", "opted_out")
        assert await run.counted() == await run.states() == {"skipped": 1, "sent": 2}


async def test_who_has_opted_out_deleted_or_was_deactivated_since_the_start_is_skipped(settings: Settings) -> None:
    async with staged(settings, FAST) as stage:
        run = await campaign(stage, 4)
        await opt_out(stage, run, run.contacts[0])
        await stage.pool.execute("UPDATE contacts SET deleted_at = now() WHERE id = $1", run.contacts[1])
        await stage.pool.execute("UPDATE contacts SET is_active = false WHERE id = $1", run.contacts[2])
        async with stage.working(*EVERY):
            await run.take("start")
            await stage.until(run.status, equals="completed")
        assert await outcome(stage, run.contacts[0]) == ("skipped", "opted_out")
        assert await outcome(stage, run.contacts[1]) == ("skipped", "deleted")
        assert await outcome(stage, run.contacts[2]) == ("skipped", "inactive")
        assert await run.reached() == {run.numbers[3].lstrip("+"): 1}


async def test_who_is_asleep_waits_for_the_morning_where_they_live(settings: Settings) -> None:
    began = datetime.now(UTC)
    morning = began.replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    quiet = {"begin": f"{(began.hour - 1) % 24:02}:00", "end": f"{morning.hour:02}:00"}  # by the clock of Greenwich
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        asleep = await add_contacts(stage, stage.ours, NUMBERS[:2], {"timezone": "UTC"})
        awake = await add_contacts(stage, stage.ours, NUMBERS[2:], {"timezone": "Asia/Tokyo"})
        await stage.pool.execute("UPDATE tenants SET settings = $1", {"campaigns": {"quiet_hours": quiet}})
        run = await campaign(stage, contacts=[*asleep, *awake], numbers=NUMBERS)
        await run.take("start")
        await stage.until(run.states, equals={"pending": 2, "sent": 1})
        assert set(await run.reached()) == {NUMBERS[2].lstrip("+")}
        rows = await stage.rows("SELECT not_before FROM campaign_recipients WHERE status = 'pending'")
        assert {row["not_before"] for row in rows} == {morning}
        assert await run.status() == "running"
        # The tenant lifts the quiet hours, and the morning comes.
        await stage.pool.execute("UPDATE tenants SET settings = '{}'")
        await stage.pool.execute("UPDATE campaign_recipients SET not_before = now()")
        await run.nudge()
        await stage.until(run.status, equals="completed")
        assert len(await run.reached()) == 3


async def test_who_is_asleep_when_it_ends_is_expired_where_the_campaign_says_so(settings: Settings) -> None:
    hour = datetime.now(UTC).hour
    quiet = {"begin": f"{(hour - 1) % 24:02}:00", "end": f"{(hour + 2) % 24:02}:00"}
    ends_at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    own = {"quiet_hours": quiet, "ends_at": ends_at, "at_end": "expire"}
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        contacts = await add_contacts(stage, stage.ours, NUMBERS, {"timezone": "UTC"})
        run = await campaign(stage, contacts=contacts, numbers=NUMBERS, settings=own)
        await run.take("start")
        await stage.until(run.status, equals="completed")
        assert await run.states() == {"skipped": 3}
        assert await outcome(stage, contacts[0]) == ("skipped", "expired")
        assert await run.reached() == {}


async def test_a_contact_gets_no_more_of_all_campaigns_than_the_cap_of_a_day(settings: Settings) -> None:
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        await stage.pool.execute("UPDATE tenants SET settings = $1", {"campaigns": {"daily_cap": 1}})
        first = await campaign(stage, 3)
        await first.take("start")
        await stage.until(first.status, equals="completed")
        fresh = await add_contacts(stage, stage.ours, NUMBERS[:1])
        second = await campaign(stage, contacts=[*first.contacts, *fresh], numbers=[*first.numbers, NUMBERS[0]])
        await second.take("start")
        await stage.until(second.states, equals={"pending": 3, "sent": 1})
        waits = await stage.rows("SELECT not_before - now() AS left FROM campaign_recipients WHERE status = 'pending'")
        assert all(timedelta(hours=23) < row["left"] <= timedelta(hours=24) for row in waits)
        assert set((await first.reached()).values()) == {1}


async def test_a_text_goes_where_the_window_is_open_and_the_template_where_it_is_not(settings: Settings) -> None:
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        run = await campaign(
            stage, 2, settings={"free_form": True}, message="¡Hola {{contact.name}}!",
            interactive={"buttons": [{"id": "yes", "title": "Sí"}]},
        )  # fmt: skip
        conversation = await stage.converse(customer=run.numbers[0])
        await run.take("start")
        await stage.until(run.status, equals="completed")
        row = await stage.row("SELECT * FROM messages WHERE conversation_id = $1", conversation)
        assert (row["content"], row["template"]) == ("¡Hola Ana 0000!", None)
        assert row["metadata"]["form"]["interactive"]["buttons"] == [{"id": "yes", "title": "Sí"}]
        other = await stage.row("SELECT * FROM messages WHERE conversation_id <> $1", conversation)
        assert (other["content"], other["message_type"]) == ("Hola Ana 0001", "template")


async def test_without_a_template_who_is_outside_the_window_is_skipped(settings: Settings) -> None:
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        run = await campaign(stage, 2, template=False)
        await stage.converse(customer=run.numbers[0])
        await run.take("start")
        await stage.until(run.status, equals="completed")
        assert await run.states() == {"sent": 1, "skipped": 1}
        assert await outcome(stage, run.contacts[1]) == ("skipped", "window_closed")


async def test_a_recipient_with_a_message_of_the_campaign_gets_no_second_one(settings: Settings) -> None:
    """As after a restore, or where a row was made pending again by hand."""
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        run = await campaign(stage, 2)
        await run.take("start")
        await stage.until(run.states, equals={"sent": 2})
        await stage.until(run.status, equals="completed")
        await stage.pool.execute("UPDATE campaign_recipients SET status = 'pending', message_id = NULL")
        await stage.pool.execute("UPDATE campaigns SET status = 'running', due_at = now()")
        await run.nudge()
        await stage.until(run.status, equals="completed")
        assert await outcome(stage, run.contacts[0]) == ("skipped", "duplicate")
        assert set((await run.reached()).values()) == {1}


async def test_another_campaigns_message_does_not_wait_for_one_that_is_paused(settings: Settings) -> None:
    async with staged(settings, FAST) as stage:
        first = await campaign(stage, 2)
        async with stage.working("campaign"):
            await first.take("start")
            await stage.until(first.states, equals={"queued": 2})
            await first.take("pause")
        second = await campaign(stage, contacts=first.contacts, numbers=first.numbers)
        async with stage.working(*EVERY):
            await second.take("start")
            await stage.until(second.status, equals="completed")
            assert await first.states() == {"queued": 2}
            assert await second.states() == {"sent": 2}
            await first.take("resume")
            await stage.until(first.status, equals="completed")
            assert await first.states() == {"sent": 2}


async def test_a_recipient_whose_message_the_database_refuses_holds_up_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_ready = bulk.add_ready

    async def refusing(
        connection: database.Connection, page: bulk.Page, messages: Sequence[bulk.ReadyMessage], handoff: timedelta
    ) -> set[UUID]:
        if any(one.content == "Hola Ana 0003" for one in messages):
            await connection.execute("UPDATE conversations SET address = ''")  # a constraint forbids it
        return await add_ready(connection, page, messages, handoff)

    monkeypatch.setattr(bulk, "add_ready", refusing)
    async with staged(settings, FAST) as stage, stage.working(*EVERY):
        run = await campaign(stage, 9)
        await run.take("start")
        await stage.until(run.status, equals="completed")
        assert await run.states() == {"sent": 8, "failed": 1}
        assert await outcome(stage, run.contacts[3]) == ("failed", "not_storable")
        row = await stage.row("SELECT sent_count, failed_count FROM campaigns")
        assert (row["sent_count"], row["failed_count"]) == (8, 1)
        await run.check_counters()


async def test_the_more_campaigns_a_channel_has_the_less_each_makes_at_a_time(settings: Settings) -> None:
    async with staged(settings, {"reply": {"engine": "none"}, "rate": 10}) as stage:
        runs = [await campaign(stage, numbers=[f"+3461{of}{n:06}" for n in range(40)]) for of in range(2)]
        async with stage.working("campaign"):
            for run in runs:
                await run.take("start")
            for run in runs:
                await stage.until(run.has_queued, equals=True)
            await asyncio.sleep(2)
        # Two seconds' worth of 8 messages a second, of which each campaign has half; one of the two began alone.
        fewer, more = sorted([(await run.states())["queued"] for run in runs])
        assert more <= 16
        assert fewer <= 8
