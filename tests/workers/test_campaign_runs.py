"""Campaigns that begin by the clock: once each time, by the clock of their zone, and again for those not reached."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.actions import campaign_again
from shared.actions.campaign_again import NotOver
from shared.domain.campaigns.settings import TenantCampaignSettings
from shared.domain.model import Template
from shared.settings import Settings
from shared.store.campaigns import tier
from shared.store.campaigns.records import Campaign
from tests.support.campaign_rows import add_campaign, add_template, campaign_of
from tests.support.campaign_stage import campaign
from tests.support.stage import Stage, staged
from workers.campaign import scheduling

SILENT: dict[str, Any] = {"reply": {"engine": "none"}}
EVERY = ("window", "send", "campaign", "clock", "persist")
NOW = datetime(2026, 11, 30, 8, 0, 3, tzinfo=UTC)  # a Monday, 9:00 in Madrid
MONDAYS: dict[str, Any] = {"recurrence": "0 9 * * MON", "timezone": "Europe/Madrid"}


async def begin(stage: Stage, campaign_id: UUID, now: datetime = NOW) -> timedelta:
    async with stage.pool.acquire() as tx, tx.transaction():
        due = await campaign_of(tx, stage, campaign_id, lock=True)
        return await scheduling.begin(tx, due, TenantCampaignSettings(), now)


async def states(stage: Stage) -> list[tuple[str, str]]:
    rows = await stage.rows("SELECT name, status FROM campaigns ORDER BY created_at, id")
    return [(row["name"], row["status"]) for row in rows]


async def test_a_scheduled_campaign_starts(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        one = await add_campaign(stage, status="scheduled")
        assert await begin(stage, one) == timedelta(0)
        assert await states(stage) == [("Autumn", "running")]


async def test_a_recurring_campaign_makes_one_of_its_own_and_is_due_for_the_next(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        one = await add_campaign(stage, status="scheduled", **MONDAYS)
        assert NOW + await begin(stage, one) == datetime(2026, 12, 7, 8, tzinfo=UTC)
        assert await states(stage) == [("Autumn", "scheduled"), ("Autumn 2026-11-30 09:00", "running")]
        run = await stage.row("SELECT * FROM campaigns WHERE origin_id = $1", one)
        assert (run["recurrence"], run["frozen_at"], run["message"]) == (None, None, "hello")
        due = await stage.value("SELECT due_at FROM campaigns WHERE id = $1", one)
        assert due == datetime(2026, 12, 7, 8, tzinfo=UTC)


async def test_times_that_were_missed_make_one_run(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        one = await add_campaign(stage, status="scheduled", **MONDAYS)
        later = NOW + timedelta(days=17)  # a Thursday; the system was down for three Mondays
        assert later + await begin(stage, one, later) == datetime(2026, 12, 21, 8, tzinfo=UTC)
        assert len(await states(stage)) == 2


async def test_a_killed_worker_makes_no_second_run(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        one = await add_campaign(stage, status="scheduled", **MONDAYS)
        async with stage.pool.acquire() as tx:
            transaction = tx.transaction()
            await transaction.start()
            due = await campaign_of(tx, stage, one, lock=True)
            await scheduling.begin(tx, due, TenantCampaignSettings(), NOW)
            await transaction.rollback()  # it was killed before the commit
        assert await states(stage) == [("Autumn", "scheduled")]
        await begin(stage, one)
        assert len(await states(stage)) == 2


async def test_a_recurring_campaign_ends_at_its_end_and_fails_where_its_times_cant_be_read(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        over = await add_campaign(stage, status="scheduled", settings={"ends_at": NOW.isoformat()}, **MONDAYS)
        await begin(stage, over)
        wrong = await add_campaign(stage, status="scheduled", recurrence="daily")
        await begin(stage, wrong)
        assert [status for _, status in await states(stage)] == ["canceled", "failed"]


async def test_the_worker_runs_a_recurring_campaign_with_recipients_of_its_own(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working(*EVERY):
        one = await campaign(stage, 3, recurrence="*/15 * * * *")
        await one.take("schedule", at=datetime.now(UTC))
        await one.nudge()
        await stage.until(one.has_reached, 3, equals=True)
        run = await stage.value("SELECT id FROM campaigns WHERE origin_id = $1", one.id)
        assert await stage.count("campaign_recipients WHERE campaign_id = $1", one.id) == 0
        assert await stage.count("campaign_recipients WHERE campaign_id = $1", run) == 3
        assert await one.status() == "scheduled"


async def again(stage: Stage, of: UUID, **more: Any) -> Campaign:
    async with stage.pool.acquire() as tx, tx.transaction():
        return await campaign_again.again(tx, await campaign_of(tx, stage, of), **more)


async def test_again_is_a_draft_for_those_not_reached_and_for_unknown_ones_only_if_asked(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        first, second = await add_template(stage), await add_template(stage, name="other")
        compared = {"comparison": {"template_id": str(second)}, "ends_at": "2026-11-28T12:00:00Z", "rate": 5}
        former = await add_campaign(stage, template=first, settings=compared)
        with pytest.raises(NotOver):
            await again(stage, former)
        await stage.pool.execute("UPDATE campaigns SET status = 'completed', winner = 1, completed_at = now()")
        made = await again(stage, former)
        given = made.values
        assert (made.status, made.origin_id, given.name) == ("draft", former, "Autumn (again)")
        assert (given.recipient_type, given.recipient_ids) == ("campaign", (former,))
        assert given.recipient_filter == {"statuses": ["failed", "canceled", "skipped"]}
        assert given.message_template_id == second, "the one that has won"
        assert given.settings == {"rate": 5}
        asked = await again(stage, former, include_unknown=True, name="Once more")
        assert asked.values.name == "Once more"
        assert asked.values.recipient_filter == {"statuses": ["failed", "canceled", "skipped", "unknown"]}


async def test_two_templates_are_shared_out_and_the_winner_goes_to_the_rest(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working(*EVERY):
        other = await add_template(stage, name="other")
        one = await campaign(stage, 60, settings={"comparison": {"template_id": str(other), "share": 0.5}})
        await one.take("start")
        await stage.until(one.status, equals="completed")
        rows = await stage.rows(
            "SELECT r.variant, m.template ->> 'name' AS name FROM campaign_recipients r "
            "JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = r.message_id"
        )
        assert {row["variant"] for row in rows} == {0, 1}
        assert len({(row["variant"], row["name"]) for row in rows}) == 2
        await one.check_counters()
        rest = await campaign(
            stage, contacts=one.contacts, settings={"comparison": {"template_id": str(other), "share": 0.5}}
        )
        await stage.pool.execute("UPDATE campaigns SET winner = 1 WHERE id = $1", rest.id)
        await rest.take("start")
        await stage.until(rest.status, equals="completed")
        assert await stage.count("campaign_recipients WHERE campaign_id = $1 AND variant = 1", rest.id) == 60


async def test_templates_outside_the_window_use_the_messaging_limit_and_the_rest_waits(settings: Settings) -> None:
    limited = SILENT | {"meta": {"messaging_limit": 7, "portfolio": "Shop"}}
    async with staged(settings, limited) as stage, stage.working(*EVERY):
        one = await campaign(stage, 10)
        await one.take("start")
        await stage.until(one.has_reached, 7, equals=True)
        await stage.until(waiting_for, stage, equals="messaging_limit")
        assert sum((await one.reached()).values()) == 7
        async with stage.pool.acquire() as connection:
            assert (await tier.used(connection, stage.ours.tenant_id, "Shop")).people == 7


async def waiting_for(stage: Stage) -> object:
    return await stage.value("SELECT progress ->> 'waiting_for' FROM campaigns")


async def test_a_template_of_no_campaign_uses_the_messaging_limit_too(settings: Settings) -> None:

    limited = SILENT | {"meta": {"messaging_limit": 7, "portfolio": "Shop"}}
    async with staged(settings, limited) as stage, stage.working("window", "send"):
        closed = await stage.converse(last_message_ago=timedelta(days=2))
        opened = await stage.converse(customer="+34600000002")
        template = Template("HX" + "7" * 32, {}, None)
        for talk in (closed, closed, opened):
            await stage.owe(talk, template=template)
        await stage.owe(opened, "hello")
        await stage.until(stage.statuses, equals=["sent"] * 4)
        contact = await stage.value("SELECT contact_id FROM conversations WHERE id = $1", closed)
        assert [row["contact_id"] for row in await stage.rows("SELECT contact_id FROM messaging_uses")] == [contact]
