"""What went wrong with the campaigns of other systems, by the number of the issue: here it does not.

Each test plays what its reporter did. listmonk: knadh/listmonk. chatwoot: chatwoot/chatwoot.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from shared.actions import campaign_life, consents
from shared.domain.campaigns.life import OVER
from shared.queue.jobs import CampaignDue
from shared.settings import Settings
from shared.store import channels
from shared.store.campaigns.records import Campaign
from shared.store.consents import Entry
from tests.support import campaigns
from tests.support.campaigns import add_contacts, draft, miscounted, phone, step, tally
from tests.support.stage import Stage, staged

WORKERS: Final = ("campaign", "send", "clock")
COUNT: Final = 60
SLOW: Final = 20.0  # messages a second
FAST: Final = 500.0
TEXT: Final = "Hola {{contact.name}}"


def channel(rate: float) -> Mapping[str, object]:
    return {"reply": {"engine": "none"}, "rate": rate, "bulk_reserve": 0}


@dataclass
class Run:
    """A campaign of text messages for COUNT contacts, and what the provider took of it."""

    stage: Stage
    campaign: Campaign

    async def take(self, taken: campaigns.Step) -> Campaign:
        return await step(self.stage, self.campaign, taken)

    async def now(self) -> Campaign:
        return await campaigns.read(self.stage.pool, self.campaign)

    async def status(self) -> str:
        return (await self.now()).status

    async def accepted(self) -> Counter[str]:
        """How many messages the provider took for each number."""
        return Counter(seen.to for seen in await self.stage.sandbox.messages() if seen.outcome == "accepted")

    async def until_accepted(self, count: int) -> None:
        async def enough() -> bool:
            return (await self.accepted()).total() >= count

        await self.stage.until(enough, equals=True)

    async def ends(self, recipients: int = COUNT) -> Counter[str]:
        """Wait until the campaign is over; who was written to was so once. Returns what became of its recipients."""
        await self.stage.until(self._is_over, equals=True, within=60)
        found = await tally(self.stage.pool, self.campaign)
        assert await miscounted(self.stage.pool, self.campaign) == []
        assert (await self.status(), found.total()) == ("completed", recipients)
        accepted = await self.accepted()
        assert set(accepted.values()) <= {1}, f"written to more than once: {accepted.most_common(5)}"
        assert len(accepted) == found["sent"]
        return found

    async def _is_over(self) -> bool:
        return await self.status() in OVER


@asynccontextmanager
async def campaigning(settings: Settings, *, rate: float = SLOW, **values: Any) -> AsyncIterator[Run]:
    """A draft; no worker runs yet."""
    async with staged(settings, channel(rate), kind="sms") as stage:
        await stage.sandbox.faults({"provider": "twilio", "action": "no_receipts"})
        await add_contacts(stage.pool, stage.ours.tenant_id, COUNT)
        yield Run(stage, await draft(stage.pool, stage.ours, **({"message": TEXT} | values)))


# -- listmonk ----------------------------------------------------------------------------------------------------------


async def test_listmonk_2313_resumed_after_an_error_it_goes_on_with_the_rest(settings: Settings) -> None:
    """The provider hung up after some thousands of messages, which paused the campaign. Each time it was resumed it
    began with the first subscriber: some got five copies, and the last third none."""
    async with campaigning(settings) as run, run.stage.working(*WORKERS):
        await run.take(campaign_life.start)
        for times in (1, 2):
            await run.until_accepted(15 * times)
            await run.stage.sandbox.faults(
                {"provider": "twilio", "action": "error", "code": 20003, "status": 401, "id": "hangs up"}
            )
            await run.stage.until(run.status, equals="paused")
            assert (await run.now()).paused_reason == "channel_stopped"
            await run.stage.sandbox.clear_faults()
            await run.stage.sandbox.faults({"provider": "twilio", "action": "no_receipts"})
            assert await channels.resume(run.stage.pool, run.stage.ours.tenant_id, run.stage.ours.id)
            await run.take(campaign_life.resume)
        assert await run.ends() == {"sent": COUNT}


async def test_listmonk_2591_paused_for_another_limit_and_started_again_it_reaches_all(settings: Settings) -> None:
    """Paused to change the limit, the process restarted with it, started again: "finished" with 1,255 of 2,194 sent,
    its place in the list at the end."""
    async with campaigning(settings) as run:
        async with run.stage.working(*WORKERS):
            await run.take(campaign_life.start)
            await run.until_accepted(10)
            await run.take(campaign_life.pause)
        assert await run.status() == "paused"
        await run.stage.configure(channel(FAST))
        async with run.stage.working(*WORKERS):
            await run.take(campaign_life.start)
            assert await run.ends() == {"sent": COUNT}


async def test_listmonk_3022_stopped_while_most_wait_for_the_limit_it_is_not_over(settings: Settings) -> None:
    """The server was rebooted while the campaign slept for its limit. It came back "finished", and half was unsent."""
    async with campaigning(settings, rate=5.0) as run:
        for _ in range(2):
            async with run.stage.working(*WORKERS):
                if await run.status() == "draft":
                    await run.take(campaign_life.start)
                before = (await run.accepted()).total()
                await run.until_accepted(before + 5)
            assert await run.status() == "running"
            found = await tally(run.stage.pool, run.campaign)
            assert found["pending"] + found["queued"] > COUNT / 2
        await run.stage.configure(channel(FAST))
        async with run.stage.working(*WORKERS):
            assert await run.ends() == {"sent": COUNT}


async def test_listmonk_1931_a_page_on_which_all_have_opted_out_is_not_the_last_one(settings: Settings) -> None:
    """More blocklisted subscribers in a row than a batch holds made an empty batch, which ended the campaign."""
    out = range(5, 55)
    async with campaigning(settings, rate=1.0) as run, run.stage.working(*WORKERS):
        await run.take(campaign_life.start)
        await run.until_accepted(1)
        await run.take(campaign_life.pause)
        async with run.stage.pool.acquire() as connection, connection.transaction():
            await consents.write(connection, [await opted_out(run, number) for number in out])
        await run.stage.configure(channel(FAST))
        await run.take(campaign_life.resume)
        await run.stage.until(run._is_over, equals=True)
        found, accepted = await tally(run.stage.pool, run.campaign), await run.accepted()
        assert found["pending"] == found["queued"] == 0
        assert {phone(number) for number in range(COUNT) if number not in out} <= accepted.keys()
        assert set(accepted.values()) == {1}
        assert found["skipped"] + found["sent"] + found["opted_out"] == COUNT
        assert found["skipped"] >= len(out) - 5  # some may have been on their way


async def opted_out(run: Run, number: int) -> Entry:
    contact_id = await run.stage.value("SELECT id FROM contacts WHERE phone_number = $1", phone(number))
    return Entry(run.stage.ours.tenant_id, contact_id, "sms", "opted_out", "api", datetime.now(UTC))


# -- chatwoot ----------------------------------------------------------------------------------------------------------


async def test_chatwoot_12821_jobs_that_run_in_parallel_send_one_copy(settings: Settings) -> None:
    """A cron picked up the campaign though its job still ran: 3,000 contacts got two or three copies."""
    async with campaigning(settings, rate=20.0) as run, AsyncExitStack() as processes:
        for _ in range(3):
            await processes.enter_async_context(run.stage.working("campaign", "send"))
        await processes.enter_async_context(run.stage.working("clock"))  # for what waits for its slot
        await run.take(campaign_life.start)
        disturbed_until = time.monotonic() + 5
        job = CampaignDue(tenant_id=run.campaign.tenant_id, campaign_id=run.campaign.id)
        while await run.status() == "running" and time.monotonic() < disturbed_until:
            # As if its lease were over at any moment, and each process had its job.
            await run.stage.pool.execute(
                "UPDATE campaigns SET due_at = now() WHERE id = $1 AND status = 'running'", run.campaign.id
            )
            await run.stage.deliver(*([job] * 5))
            await asyncio.sleep(0.02)
        assert await run.ends() == {"sent": COUNT}


async def test_chatwoot_13310_each_recipient_gets_their_own_values_in_the_template(settings: Settings) -> None:
    """Sent from a conversation the template was filled; from a campaign its variables were not."""
    async with staged(settings, channel(FAST)) as stage, stage.working(*WORKERS):
        await add_contacts(stage.pool, stage.ours.tenant_id, 10)
        await stage.pool.execute("UPDATE contacts SET name = NULL WHERE phone_number = $1", phone(3))
        template = await campaigns.add_template(stage.pool, stage.ours, "Hola {{1}}, tu código es {{2}}")
        variables = {"1": "{{contact.name}}", "2": "{{data.code|sin código}}"}
        ana = await stage.value("SELECT id FROM contacts WHERE phone_number = $1", phone(0))
        campaign = await draft(
            stage.pool, stage.ours, message_template_id=template, variables=variables,
            message_data={str(ana): {"code": "A-1"}},
        )  # fmt: skip
        run = Run(stage, campaign)
        await run.take(campaign_life.start)
        await stage.until(run._is_over, equals=True)
        sent = {seen.to: json.loads(seen.content_variables or "{}") for seen in await stage.sandbox.messages()}
        expected = {stage.ours.party(phone(number)): {"1": f"Ana {number}", "2": "sin código"} for number in range(10)}
        expected[stage.ours.party(phone(0))]["2"] = "A-1"
        del expected[stage.ours.party(phone(3))]  # nothing to call them by: they are skipped, and it says why
        assert sent == expected
        skipped = await stage.row("SELECT status, reason FROM campaign_recipients WHERE status NOT IN ('sent', 'read')")
        assert tuple(skipped) == ("skipped", "missing_variables")


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [campaign_life.start, campaign_life.resume], ids=["start", "resume"])
async def test_start_on_a_paused_campaign_goes_on_and_begins_nothing_anew(
    settings: Settings, again: campaigns.Step
) -> None:
    """In ribato22/MultiWA (pull request 41), and in listmonk (#2070), to start a paused one began from the first
    recipient, or resolved the recipients again."""
    async with campaigning(settings) as run, run.stage.working(*WORKERS):
        await run.take(campaign_life.start)
        await run.until_accepted(10)
        await run.take(campaign_life.pause)
        before = await run.now()
        recipients = await run.stage.rows("SELECT id, contact_id FROM campaign_recipients ORDER BY id")
        await add_contacts(run.stage.pool, run.stage.ours.tenant_id, 5, first=COUNT)  # too late for this campaign
        for _ in range(2):  # a double click
            await run.take(again)
        assert await run.ends() == {"sent": COUNT}
        after = await run.now()
        assert (after.started_at, after.frozen_at) == (before.started_at, before.frozen_at)
        assert await run.stage.rows("SELECT id, contact_id FROM campaign_recipients ORDER BY id") == recipients
