"""A campaign through each provider, as its SDK or protocol carries it: out to each recipient, and back by receipt and
by answer."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from ops.sandbox.meta_forms import PHONE_NUMBER_ID
from shared import database
from shared.actions import campaign_life
from shared.domain.campaigns.life import OVER
from shared.settings import Settings
from shared.store.campaigns.records import Campaign
from tests.support import campaigns
from tests.support.campaigns import PLAIN, add_contacts, add_template, draft, miscounted, phone, step, tally
from tests.support.email_stage import mailbox
from tests.support.ingress import ingress
from tests.support.kommo_stage import opened as kommo_opened
from tests.support.meta_stage import add_app, add_number
from tests.support.stage import Ours, Stage, staged

COUNT: Final = 8
STILL: Final[Mapping[str, object]] = {"reply": {"engine": "none"}}
TEXT: Final = "Hola {{contact.name}}, abrimos el lunes."
EVERY: Final = ("campaign", "send", "clock", "persist")


async def run(stage: Stage, ours: Ours, **values: Any) -> Campaign:
    campaign = await draft(stage.pool, ours, **values)
    return await step(stage, campaign, campaign_life.start)


async def become(stage: Stage, campaign: Campaign, **expected: int) -> None:
    """Wait until the campaign is over, and this has become of its recipients; the counters say so too."""

    async def outcomes() -> tuple[bool, Counter[str]]:
        now = await campaigns.read(stage.pool, campaign)
        return now.status in OVER, await tally(stage.pool, campaign)

    await stage.until(outcomes, equals=(True, Counter(expected)))
    assert (await campaigns.read(stage.pool, campaign)).status == "completed"
    assert await miscounted(stage.pool, campaign) == []
    assert await stage.dead_letters() == {}


async def test_a_campaign_on_whatsapp_at_twilio(settings: Settings) -> None:
    async with staged(settings, STILL, receipts=True) as stage, stage.working(*EVERY):
        await add_contacts(stage.pool, stage.ours.tenant_id, COUNT)
        template = await add_template(stage.pool, stage.ours, "Hola {{1}}, abrimos el {{2}}.")
        variables = {"1": "{{contact.name}}", "2": "lunes"}
        campaign = await run(stage, stage.ours, message_template_id=template, variables=variables)
        await become(stage, campaign, read=COUNT)
        seen = {one.to: one for one in await stage.sandbox.messages()}
        assert seen.keys() == {stage.ours.party(phone(number)) for number in range(COUNT)}
        one = seen[stage.ours.party(phone(3))]
        assert one.content_sid == campaigns.CONTENT_SID
        assert json.loads(one.content_variables or "") == {"1": "Ana 3", "2": "lunes"}
        await stage.deliver(stage.said("¡gracias!", sender=phone(3), received_at=datetime.now(UTC)))
        await become(stage, campaign, read=COUNT - 1, replied=1)


async def test_a_campaign_by_sms(settings: Settings) -> None:
    async with staged(settings, STILL, kind="sms", receipts=True) as stage, stage.working(*EVERY):
        await add_contacts(stage.pool, stage.ours.tenant_id, COUNT)
        campaign = await run(stage, stage.ours, message=TEXT)
        await become(stage, campaign, delivered=COUNT)
        assert await stage.bodies(phone(5)) == ["Hola Ana 5, abrimos el lunes."]
        await stage.deliver(stage.said("STOP", sender=phone(5), received_at=datetime.now(UTC)))
        await become(stage, campaign, delivered=COUNT - 1, opted_out=1)
        # The next campaign leaves them out, and says why.
        second = await run(stage, stage.ours, message=TEXT)
        await become(stage, second, delivered=COUNT - 1, skipped=1)
        reason = await stage.value(
            "SELECT reason FROM campaign_recipients WHERE campaign_id = $1 AND status = 'skipped'", second.id
        )
        assert reason == "opted_out"


@asynccontextmanager
async def at_meta(settings: Settings) -> AsyncIterator[tuple[Stage, Ours, str]]:
    """A number of Meta's whose receipts come in through ingress; the third is its webhook's URL."""
    async with staged(settings) as stage, ingress(stage.settings) as client, stage.working(*EVERY):
        app = await add_app(stage)
        ours = await add_number(stage, app, PHONE_NUMBER_ID, channel=STILL)
        async with client.get("/") as answer:
            url = str(answer.url.with_path(f"/webhooks/meta/{app}"))
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=url)
        yield stage, ours, url


async def test_a_campaign_at_meta(settings: Settings) -> None:
    async with at_meta(settings) as (stage, ours, url):
        await add_contacts(stage.pool, ours.tenant_id, COUNT)
        template = await add_template(stage.pool, ours, "Hola {{1}}")
        campaign = await run(stage, ours, message_template_id=template, variables={"1": "{{contact.name}}"})
        await become(stage, campaign, read=COUNT)
        seen = {one.to: one for one in await stage.sandbox.messages()}
        assert {number.removeprefix("+") for number in seen} == {phone(n).removeprefix("+") for n in range(COUNT)}
        assert {one.content_sid for one in seen.values()} == {"offer"}
        assert {"Ana 3" in (one.content_variables or "") for one in seen.values()} == {True, False}
        await stage.sandbox.meta_customer(sender=phone(3), webhook_url=url, text="¡gracias!")
        await become(stage, campaign, read=COUNT - 1, replied=1)


async def test_a_campaign_in_the_chats_of_kommo(settings: Settings) -> None:
    """Only who has a chat there can be written to, and there are no receipts."""
    chats = [f"11111111-2222-4333-8444-{number:012d}" for number in range(3)]
    async with kommo_opened(settings, STILL) as door:
        stage = door.stage
        for chat in chats:
            await door.says("customer", "hola", chat_id=chat)
        await stage.until(stage.count, "conversations", equals=len(chats))
        await add_contacts(stage.pool, door.ours.tenant_id, 2)  # who have no chat
        settings_of_campaign = {**PLAIN, "free_form": True}
        campaign = await run(stage, door.ours, message="Abrimos el lunes.", settings=settings_of_campaign)
        await become(stage, campaign, sent=len(chats), skipped=2)
        for chat in chats:
            assert [one.body for one in await door.answers(chat)] == ["Abrimos el lunes."]
        await door.says("customer", "¡gracias!", chat_id=chats[1])
        await become(stage, campaign, sent=len(chats) - 1, replied=1, skipped=2)


async def test_a_campaign_by_mail(settings: Settings) -> None:
    """Each mail has its way out (RFC 8058); one comes back, and one is answered."""
    async with mailbox(settings, STILL, *EVERY) as box:
        stage, addresses = box.stage, [f"ana{number}@customer.example" for number in range(COUNT)]
        for number, address in enumerate(addresses):
            await add_mail_contact(stage.pool, box.ours.tenant_id, address, f"Ana {number}")
        campaign = await run(stage, box.ours, message=TEXT)
        await become(stage, campaign, sent=COUNT)
        ((text, headers),) = await box.mails(addresses[3])
        assert text.startswith("Hola Ana 3, abrimos el lunes.")
        assert headers["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
        await box.writes("¡gracias!", sender=addresses[3], headers={"In-Reply-To": headers["message-id"]})
        ((_, back),) = await box.mails(addresses[4])
        await stage.sandbox.email_bounce(back["message-id"], webhook_url=box.url)
        await become(stage, campaign, sent=COUNT - 2, replied=1, failed=1)


_ADDRESS: Final = """
INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) VALUES ($1, 'email', $2, $2, $3)
"""


async def add_mail_contact(pool: database.Pool, tenant_id: UUID, address: str, name: str) -> None:
    contact = database.new_id()
    await pool.execute("INSERT INTO contacts (id, tenant_id, name) VALUES ($1, $2, $3)", contact, tenant_id, name)
    await pool.execute(_ADDRESS, tenant_id, address, contact)
