"""A recipient becomes `replied` when they write, and `opted_out` when they opt out, within the campaign's time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.actions import consents
from shared.actions.consents import OptOutRefusal, Wish
from shared.settings import Settings
from shared.store.campaigns import answers
from tests.support.campaign_rows import add_campaign
from tests.support.stage import CUSTOMER, Ours, Stage, staged
from workers.persist import worker

SILENT: dict[str, Any] = {"reply": {"engine": "none"}}
_RECIPIENT = "INSERT INTO campaign_recipients (id, tenant_id, campaign_id, contact_id) VALUES ($1, $2, $3, $4)"
_MESSAGE = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content, out_seq,
    claimed_at, sent_at, failed_at, error_code, campaign_recipient_id)
VALUES (gen_random_uuid(), $1, $2, $3, 'twilio', 'outbound', 'assistant', $4, 'hello', 1, $5::timestamptz,
    CASE WHEN $4 = 'sent' THEN $5::timestamptz END, CASE WHEN $4 = 'failed' THEN $5::timestamptz END,
    CASE WHEN $4 = 'failed' THEN '63014' END, $6)
RETURNING id
"""


async def written_to(
    stage: Stage,
    campaign: UUID,
    *,
    customer: str = CUSTOMER,
    ago: timedelta = timedelta(hours=1),
    status: str = "sent",
) -> tuple[UUID, UUID, UUID]:
    """(recipient, conversation, message) of a campaign's message that left so long ago."""
    ours = stage.ours
    await said(stage, "hello", sender=customer)  # so that the customer is known by their address
    found = await stage.row("SELECT id, contact_id FROM conversations WHERE recipient = $1", customer)
    conversation, contact = found["id"], found["contact_id"]
    recipient = await stage.value("SELECT gen_random_uuid()")
    await stage.pool.execute(_RECIPIENT, recipient, ours.tenant_id, campaign, contact)
    left = datetime.now(UTC) - ago
    message = await stage.value(_MESSAGE, ours.tenant_id, conversation, ours.id, status, left, recipient)
    await stage.pool.execute("UPDATE campaign_recipients SET queued_at = $1 WHERE id = $2", left, recipient)
    return recipient, conversation, message


async def enter(stage: Stage) -> int:
    async with stage.pool.acquire() as tx, tx.transaction():
        return await answers.enter(tx, 100)


async def state(stage: Stage, recipient: UUID) -> tuple[str, str | None, bool, bool]:
    row = await stage.row("SELECT * FROM campaign_recipients WHERE id = $1", recipient)
    return row["status"], row["reason"], row["replied_at"] is not None, row["opted_out_at"] is not None


async def said(stage: Stage, text: str, *, to: Ours | None = None, sender: str = CUSTOMER) -> None:
    await worker.persist([stage.said(text, to=to, sender=sender, received_at=datetime.now(UTC))], stage.context)


async def test_an_answer_within_the_time_counts_and_a_later_one_does_not(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage, settings={"replied_within": 2})
        early, *_ = await written_to(stage, campaign)
        late, *_ = await written_to(stage, campaign, customer="+34600000002", ago=timedelta(hours=3))
        silent, *_ = await written_to(stage, campaign, customer="+34600000003")
        await said(stage, "yes please")
        await said(stage, "yes please", sender="+34600000002")
        await said(stage, "who is this?", sender="+34600000099")  # no campaign has written to them
        assert await stage.count("campaign_answers") == 2
        assert await enter(stage) == 2
        assert await state(stage, early) == ("replied", None, True, False)
        assert await state(stage, late) == ("sent", None, False, False)
        assert await state(stage, silent) == ("sent", None, False, False)
        counted = await stage.rows(
            "SELECT status, sum(recipients)::int AS n FROM campaign_counts GROUP BY 1 HAVING sum(recipients) <> 0"
        )
        assert {row["status"]: row["n"] for row in counted} == {"replied": 1, "sent": 2}
        assert await stage.count("campaign_answers") == 0


async def test_an_answer_on_another_channel_is_none(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        other = await stage.add_channel(SILENT, beside=stage.ours, address="+14155230000")
        recipient, *_ = await written_to(stage, await add_campaign(stage))
        await said(stage, "hello", to=other)
        assert await enter(stage) == 1
        assert (await state(stage, recipient))[0] == "sent"


async def test_stop_opts_out_and_outdoes_the_answer_that_it_is(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        recipient, *_ = await written_to(stage, await add_campaign(stage))
        await said(stage, "STOP")
        assert await enter(stage) == 2
        assert await state(stage, recipient) == ("opted_out", None, True, True)
        await said(stage, "and thank you")
        await enter(stage)
        assert (await state(stage, recipient))[0] == "opted_out"


async def test_an_opt_out_by_the_api_counts_on_each_channel_of_its_kind(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        recipient, conversation, _ = await written_to(stage, await add_campaign(stage))
        contact = await stage.value("SELECT contact_id FROM conversations WHERE id = $1", conversation)
        for kind, status in (("sms", "sent"), ("whatsapp", "opted_out")):
            async with stage.pool.acquire() as tx, tx.transaction():
                await consents.enter(tx, Wish(stage.ours.tenant_id, contact, kind, "opted_out", False, {}))  # type: ignore[arg-type]
            await enter(stage)
            assert (await state(stage, recipient))[0] == status


async def test_a_refusal_by_the_provider_opts_out_with_its_code(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        recipient, conversation, message = await written_to(stage, await add_campaign(stage), status="failed")
        refusal = OptOutRefusal(stage.ours.tenant_id, conversation, message, "twilio", "63014", datetime.now(UTC))
        async with stage.pool.acquire() as tx, tx.transaction():
            await consents.record_refusals(tx, [refusal])
        assert await enter(stage) == 1
        assert await state(stage, recipient) == ("opted_out", "63014", False, True)


async def test_an_answer_waits_for_a_message_that_is_locked_and_holds_no_other_up(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        campaign = await add_campaign(stage)
        first, _, locked = await written_to(stage, campaign)
        second, *_ = await written_to(stage, campaign, customer="+34600000002")
        await said(stage, "yes")
        await said(stage, "yes", sender="+34600000002")
        async with stage.pool.acquire() as receipts, receipts.transaction():
            await receipts.execute("UPDATE messages SET status = 'delivered' WHERE id = $1", locked)
            assert await asyncio.wait_for(enter(stage), 5) == 1
            assert (await state(stage, second))[0] == "replied"
        assert await enter(stage) == 1
        assert (await state(stage, first))[0] == "replied"


async def test_the_clock_enters_answers_by_itself(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        recipient, *_ = await written_to(stage, await add_campaign(stage))
        await said(stage, "yes")
        async with stage.working("clock"):
            await stage.until(state, stage, recipient, equals=("replied", None, True, False))
