"""A tenant that locks its own messages delays no other tenant's, however many of its own are in hand."""

import asyncio

import pytest

from shared.queue.jobs import SendReady
from shared.settings import Settings
from tests.support.stage import Ours, Stage, staged
from tests.workers.test_locks import ROWS, holding

MANY = 60
SOON = 8.0  # seconds; a statement waits for a lock for 1.5
FOR_LONG = "SET LOCAL idle_in_transaction_session_timeout = 0; "


async def admitted(stage: Stage, ours: Ours, customer: str) -> SendReady:
    """A message that is ready, and the nudge that tells of it."""
    conversation = await stage.converse(ours=ours, customer=customer)
    request = await stage.requested(conversation, "hola", ours=ours)
    await stage.pool.execute(
        "UPDATE messages SET status = 'ready', admitted_at = now(), due_at = now() + interval '1 hour' WHERE id = $1",
        request.message_id,
    )
    return SendReady(
        tenant_id=ours.tenant_id, channel_id=ours.id, conversation_id=conversation,
        message_id=request.message_id, provider="twilio",
    )  # fmt: skip


async def many_in_hand(stage: Stage) -> bool:
    return await stage.count("messages WHERE status = 'sending'") >= 20


@pytest.mark.parametrize("when", ["recorded", "claimed"])
async def test_a_tenants_locks_keep_the_sends_of_others_going(settings: Settings, when: str) -> None:
    async with staged(settings, {"rate": 1000}, send_timeout=15.0, send_lease_margin=15.0) as stage:
        theirs, other = stage.ours, await stage.add_channel({"rate": 1000}, address="+14155550001")
        crowd = [await admitted(stage, theirs, f"+3461000{number:04}") for number in range(MANY)]
        ours = await admitted(stage, other, "+34620000000")
        async with stage.working("send", "clock"):
            if when == "recorded":
                await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 1000, "times": MANY})
                await stage.deliver(*crowd)
                await stage.until(many_in_hand, stage, equals=True)
            async with holding(stage, theirs, FOR_LONG + ROWS["messages"]):
                if when == "claimed":
                    await stage.deliver(*crowd)
                await asyncio.sleep(1.0)
                await stage.deliver(ours)
                await stage.until(stage.status, ours.message_id, equals="sent", within=SOON)
            await stage.until(stage.count, "messages WHERE status = 'sent'", equals=MANY + 1, within=60)
