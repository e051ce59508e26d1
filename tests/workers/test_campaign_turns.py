"""A tenant with very many campaigns, or answers to them, leaves the other tenants their turns."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.database import new_id
from shared.settings import Settings
from shared.store.campaigns import answers, runs
from tests.support.campaign_rows import add_campaign
from tests.support.stage import Ours, Stage, staged

SILENT: dict[str, Any] = {"reply": {"engine": "none"}}


async def may_step(stage: Stage, ours: Ours, campaign: UUID) -> bool:
    async with stage.pool.acquire() as tx, tx.transaction():
        return await runs.claim(tx, ours.tenant_id, campaign, None) is not None


async def test_so_many_campaigns_of_a_tenant_send_at_once_and_the_next_one_when_one_waits(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        mine = [await add_campaign(stage) for _ in range(runs.AT_ONCE + 2)]
        other = await stage.add_channel(SILENT, address="+34600000777")
        theirs = await add_campaign(stage, ours=other)
        turns = [await may_step(stage, stage.ours, one) for one in mine]
        assert turns == [True] * runs.AT_ONCE + [False] * 2
        assert await may_step(stage, other, theirs)
        later = runs.SOON + timedelta(minutes=1)  # as where its recipients are asleep
        await stage.pool.execute("UPDATE campaigns SET due_at = now() + $2::interval WHERE id = $1", mine[0], later)
        assert [await may_step(stage, stage.ours, one) for one in mine[-2:]] == [True, False]


async def test_answers_to_one_tenants_campaigns_wait_for_no_other_tenants(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await add_answers(stage, stage.ours.tenant_id, answers.SHARE + 50)
        theirs = (await stage.add_channel(SILENT, address="+34600000777")).tenant_id
        await add_answers(stage, theirs, 1)
        async with stage.pool.acquire() as tx, tx.transaction():
            await answers.enter(tx, answers.SHARE)
        assert await stage.value("SELECT count(*) FROM campaign_answers WHERE tenant_id = $1", theirs) == 0
        assert await stage.count("campaign_answers") == 51


async def add_answers(stage: Stage, tenant_id: UUID, count: int) -> None:
    contact = new_id()
    await stage.pool.execute("INSERT INTO contacts (id, tenant_id, name) VALUES ($1, $2, 'Ana')", contact, tenant_id)
    await stage.pool.execute(
        """INSERT INTO campaign_answers (tenant_id, contact_id, kind, channel_kind, at)
        SELECT $1, $2, 'opted_out', 'sms', now() FROM generate_series(1, $3)""",
        *(tenant_id, contact, count),
    )
