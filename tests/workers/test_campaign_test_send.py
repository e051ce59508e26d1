"""A test send of a campaign: what recipients will get, to one contact, who is no recipient by it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.actions import campaign_test_send as action
from shared.actions.messages import NotQueued
from shared.queue.jobs import SendRequested
from shared.settings import Settings
from tests.support.campaign_rows import campaign_of
from tests.support.campaign_stage import CampaignStage, campaign
from tests.support.stage import Stage, staged

SILENT: dict[str, Any] = {"reply": {"engine": "none"}}


async def send(stage: Stage, run: CampaignStage, contact: UUID, cause: str = "1") -> tuple[UUID, SendRequested | None]:
    async with stage.pool.acquire() as tx, tx.transaction():
        of = await campaign_of(tx, stage, run.id)
        message, job = await action.send_test(tx, of, contact, cause, timedelta(seconds=5))
    return message.id, job


async def test_the_contact_gets_what_recipients_will_get_and_is_none(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("window", "send"):
        run = await campaign(stage, 2)
        message, job = await send(stage, run, run.contacts[0])
        assert job is not None
        again, none = await send(stage, run, run.contacts[0])
        assert (again, none) == (message, None), "one request, one message"
        await stage.deliver(job)
        await stage.until(stage.status, message, equals="sent")
        row = await stage.message(message)
        assert row["content"] == "Hola Ana 0000"
        assert (row["lane"], row["campaign_recipient_id"]) == ("normal", None)
        assert await stage.count("campaign_recipients") == 0
        assert await run.status() == "draft"
        another, _ = await send(stage, run, run.contacts[0], "2")
        assert another != message


async def test_facts_of_the_campaign_and_of_the_contact_fill_its_text(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        run = await campaign(
            stage, 2, template=False, message="{{contact.metadata.city}} {{data.code}} {{data.none|-}}"
        )
        await stage.pool.execute('UPDATE contacts SET metadata = \'{"city": "Vigo"}\'')
        await stage.pool.execute(
            "UPDATE campaigns SET message_data = jsonb_build_object($1::text, jsonb_build_object('code', 7))",
            str(run.contacts[0]),
        )
        message, _ = await send(stage, run, run.contacts[0])
        assert (await stage.message(message))["content"] == "Vigo 7 -"
        with pytest.raises(NotQueued, match=r"data\.code"):
            await send(stage, run, run.contacts[1])


async def test_nothing_is_queued_to_a_contact_without_address_or_one_that_has_opted_out(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        run = await campaign(stage, 2)
        await stage.pool.execute("DELETE FROM contact_addresses WHERE contact_id = $1", run.contacts[0])
        with pytest.raises(NotQueued) as refused:
            await send(stage, run, run.contacts[0])
        assert refused.value.obstacle == "contact"
        await stage.pool.execute(
            "INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source) "
            "VALUES ($1, $2, 'whatsapp', 'opted_out', 'api')",
            *(stage.ours.tenant_id, run.contacts[1]),
        )
        with pytest.raises(NotQueued) as refused:
            await send(stage, run, run.contacts[1])
        assert refused.value.obstacle == "opted_out"
        assert await stage.count("messages") == 0
