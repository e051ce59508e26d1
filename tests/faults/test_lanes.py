"""A conversation's messages leave in their order, one at a time, however many processes send and are killed."""

import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from ops.local.stack import Stack
from shared.settings import Settings
from shared.store import conversations
from shared.store.messages import outbound
from tests.faults import verdicts
from tests.faults.customers import customer
from tests.faults.providers import ALL, Provider
from tests.faults.staging import System, playing

pytestmark = pytest.mark.heavy

CONVERSATIONS: Final = 20
EACH: Final = 20  # messages in a conversation
MANY: Final = 50  # in a conversation of `palomar soak`, and where all can't leave before a process stops
SENDERS: Final = ("send.1", "send.2", "send.3")
MESSAGES_PER_KILL: Final = 125  # at most, on average
SEED: Final = 20260502

# The provider takes its time, differently each time: two calls that could overlap would.
SLOW: Final[tuple[Mapping[str, object], ...]] = (
    {"action": "slow", "delay_ms": 120, "probability": 0.1, "seed": 1, "accepted_first": True},
    {"action": "slow", "delay_ms": 120, "probability": 0.2, "seed": 2},
    {"action": "slow", "delay_ms": 20},
)
# Where the provider can be asked, whatever is unknown must be found by asking.
SILENT: Final = {"provider": "twilio", "action": "no_receipts"}


async def owe_all(system: System, dice: random.Random, count: int, each: int) -> None:
    """Queue `each` messages in `count` conversations, as an API would, and publish their jobs in no order."""
    stage = system.stage
    requests = []
    for number in range(count):
        conversation = await stage.converse(customer=system.provider.address(customer(number)))
        async with stage.pool.acquire() as connection, connection.transaction():
            await conversations.lock(connection, {(stage.ours.tenant_id, conversation)})
            for place in range(each):
                message = outbound.NewMessage(
                    tenant_id=stage.ours.tenant_id,
                    conversation_id=conversation,
                    channel_id=stage.ours.id,
                    provider=system.provider.name,
                    dedupe_key=f"test:{number}:{place}",
                    content=f"message {place} of conversation {number}",
                )
                request = await outbound.add_outbound(
                    connection, message, timedelta(seconds=system.settings.handoff_lease)
                )
                assert request is not None
                requests.append(request)
    dice.shuffle(requests)
    await stage.deliver(*requests)


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    ("provider", "each"),
    [
        pytest.param(ALL[0], EACH, id=ALL[0].name),
        *(pytest.param(one, MANY, id=f"{one.name} soak", marks=pytest.mark.soak) for one in ALL),
    ],
)
async def test_messages_keep_their_order_while_senders_are_killed(
    stack: Stack, settings: Settings, tmp_path: Path, provider: Provider, each: int
) -> None:
    owed = CONVERSATIONS * each
    dice = random.Random(SEED)
    channel = {"reply": {"engine": "none"}, "rate": 25}
    leases = {"send_timeout": 3.0, "send_lease_margin": 1.0}
    async with playing(stack, settings, tmp_path, provider=provider, channel=channel, **leases) as system:
        await system.stage.sandbox.faults(SILENT, *({"provider": provider.name, **rule} for rule in SLOW))
        if not provider.asked:
            await system.start("receive", "persist.1")  # only a receipt resolves an unknown outcome here
        await owe_all(system, dice, CONVERSATIONS, each)
        await system.start("window.1", "clock.1", *SENDERS)

        async def decided() -> int:
            return await system.count("messages WHERE direction = 'outbound' AND status <> 'queued'")

        await system.until_holds(decided, (1).__le__, within=60, what="messages decided on")
        await system.kill("window.1")
        await system.start("window.1")

        async def sent() -> int:
            return await system.count("messages WHERE status IN ('sent', 'delivered', 'read', 'failed')")

        kills = 0
        while (done := await sent()) < owed * 0.9:
            wanted = min(done + dice.randint(1, 60), int(owed * 0.98))  # the last ones may be of unknown outcome
            await system.until_holds(sent, wanted.__le__, within=60, what=f"{wanted} messages sent")
            name = dice.choice(SENDERS)
            await system.kill(name)
            await system.start(name)
            kills += 1
        took = await verdicts.terminal(system)

        seen = await system.stage.sandbox.messages()
        await verdicts.sent_once(system, seen)
        await verdicts.in_order(system, seen)
        unknown = await verdicts.ever_unknown(system, seen)
        await verdicts.no_dead_letters(system)
        system.all_alive()
        calls = {system.provider.our_id(message) for message in seen if message.outcome == "accepted"}
        failed = await system.count("messages WHERE status = 'failed' AND error_code IS DISTINCT FROM 'resent'")
        print(
            f"{len(calls)} at the provider, {failed} never sent, {len(unknown)} for a time unknown, "
            f"{len(system.in_flight)} in flight at {kills} kills; terminal after {took:.1f} s"
        )
        assert len(calls) + failed == owed
        assert kills >= owed / MESSAGES_PER_KILL, "too few kills to mean anything: lower the channel's rate"


@pytest.mark.timeout(120)
async def test_a_sender_that_is_stopped_in_order_leaves_no_message_of_unknown_outcome(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    """Even where its conversations have more to send than fits into the time a stop may take."""
    channel = {"reply": {"engine": "none"}, "rate": 1000}
    async with playing(stack, settings, tmp_path, channel=channel, send_timeout=3.0, stop_grace=5.0) as system:
        await system.stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 250})
        await owe_all(system, random.Random(SEED), 4, MANY)
        await system.start("window.1", "send.1")

        async def sent() -> int:
            return await system.count("messages WHERE status NOT IN ('queued', 'ready', 'sending')")

        await system.until_holds(sent, (10).__le__, within=60, what="10 messages sent")
        await system.terminate("send.1")
        assert await sent() < 4 * MANY, "all was sent before the stop: make it slower"
        assert await system.count("messages WHERE status IN ('sending', 'unknown')") == 0

        await system.stage.sandbox.clear_faults()
        await system.start("send.1", "clock.1")
        await verdicts.terminal(system)
        seen = await system.stage.sandbox.messages()
        await verdicts.sent_once(system, seen)
        await verdicts.in_order(system, seen)
        assert not await verdicts.ever_unknown(system, seen)
        assert len(seen) == 4 * MANY
