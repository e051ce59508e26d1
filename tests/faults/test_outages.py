"""The broker or the database goes away for a while: ingress goes on answering 2xx, and nothing that came is lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from ops.local.stack import Stack
from shared.queue import topology
from shared.queue.jobs import Job, ReplyWanted
from shared.settings import Settings
from tests.faults import faults, verdicts
from tests.faults.customers import PATIENCE, Customers, channel_settings, customer, writing
from tests.faults.staging import System, playing

pytestmark = pytest.mark.heavy

OUTAGE: Final = 20.0  # seconds
BROKER_OUTAGE: Final = 10.0  # the spool takes the first webhook as it takes the thousandth
RATE: Final = 40.0  # webhooks per second
PROMPT: Final = 5.0  # seconds that a webhook's answer may take at most, on a machine that does much else
EACH_ONCE: Final = ("receive", "persist.1", "reply.1", "window.1", "send.1", "relay.1", "clock.1")


async def load(customers: Customers, seconds: float) -> None:
    """Webhooks by the clock, each POSTed once, whatever is still unanswered; every one must be answered 2xx."""
    posts = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        number = len(customers.written)
        webhook = customers.seal(customers.write(customer(number), 0, alone=False))
        posts.append(asyncio.create_task(customers.post(webhook)))
        await asyncio.sleep(1 / RATE)
    await asyncio.gather(*posts)
    refused = [dict(written.answers) for written in customers.written if not written.taken]
    assert not refused, f"{len(refused)} of {len(posts)} webhooks were not answered 2xx: {refused[:10]}"


@pytest.mark.timeout(420)
async def test_while_the_broker_is_down_webhooks_are_still_taken_and_arrive_afterwards(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    async with playing(stack, settings, tmp_path, channel={"reply": {"engine": "none"}}) as system:
        await system.start("receive", "persist.1")
        async with writing(system, random.Random(1)) as customers:
            await load(customers, 2.0)
            system.kill_broker()
            await load(customers, BROKER_OUTAGE)
            assert await system.metric("receive", "palomar_spool_webhooks") > 0, "nothing went to the spool"
            starting = asyncio.create_task(system.start_broker())
            await load(customers, 5.0)  # while it comes up, and the spool drains beside fresh webhooks
            await starting
            await load(customers, 5.0)
            assert customers.slowest < PROMPT, f"the slowest answer took {customers.slowest:.1f} s"
            await verdicts.all_kept(system, customers.written)
            await system.until(
                lambda: system.metric("receive", "palomar_spool_webhooks"), equals=0, within=60, what="empty spool"
            )
            await verdicts.no_dead_letters(system)
            system.all_alive()


@pytest.mark.timeout(420)
async def test_while_the_database_is_down_nothing_dies_and_conversations_go_on_afterwards(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    async with playing(stack, settings, tmp_path, channel=channel_settings()) as system:
        print(await database_outage(system, OUTAGE))


async def database_outage(system: System, seconds: float) -> str:
    """The database goes away for so long while customers write; returns a line of figures."""
    await faults.listen(system)
    await system.start(*EACH_ONCE)
    pids = system.pids()
    async with writing(system, random.Random(2), PATIENCE + seconds) as customers:
        customers.begin(steady=6, chatty=4)
        await customers.answered_more(faults.FLOW)
        await system.stop_database()
        before = len(customers.written)
        await asyncio.sleep(seconds)  # the outage itself
        during = customers.written[before:]
        await system.start_database()
        assert len(during) > 10, f"only {len(during)} messages were written meanwhile"
        refused = [dict(written.answers) for written in during if set(written.answers) - {"200", "204"}]
        assert not refused, f"not answered 2xx at once: {refused[:10]}"
        await customers.answered_more(faults.FLOW)
        await customers.end()
        figures = await verdicts.everything(system, customers, faults.EVENTS)
    assert system.pids() == pids
    return figures


# -- ten orderly restarts ----------------------------------------------------------------------------------------------

RESTARTS: Final = 10
# How many messages stand in each queue: more than its worker takes at once.
WEBHOOKS, REPLIES, REQUESTS, SENDS = 150, 120, 120, 72
PREFETCH: Final = {"persist": 100, "reply": 100, "window": 100, "send.twilio": 64}


def at_least(wanted: Mapping[str, int], counted: Mapping[str, int]) -> bool:
    return all(counted[name] >= wanted[name] for name in wanted)


@asynccontextmanager
async def nothing_finishes(system: System) -> AsyncIterator[None]:
    """Every handler waits for the lock that this holds: what was taken stays in hand."""
    async with system.stage.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # it rests for as long as need be
        await connection.execute("LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE")
        yield


async def prepare(system: System) -> dict[str, list[Job]]:
    """Rows at every step of the way, each in a conversation of its own, and the message that leads to each."""
    stage = system.stage
    numbers = iter(range(10_000))
    await system.start("persist.1", "window.1")
    await stage.deliver(*(stage.said("message 1", sender=customer(next(numbers))) for _ in range(REPLIES)))
    for _ in range(SENDS):
        await stage.owe(await stage.converse(customer=customer(next(numbers))), "a message admitted")
    await system.until(
        lambda: system.count("conversations WHERE reply_due_at IS NOT NULL"), equals=REPLIES, within=60, what="owed"
    )
    await system.until(
        lambda: system.count("messages WHERE status = 'ready'"), equals=SENDS, within=60, what="admitted"
    )
    replies = [
        ReplyWanted(tenant_id=stage.ours.tenant_id, conversation_id=row["id"])
        for row in await system.rows("SELECT id FROM conversations WHERE reply_due_at IS NOT NULL")
    ]
    await system.terminate("persist.1", "window.1")
    admitted = [
        stage.admitted(row["conversation_id"], row["id"])
        for row in await system.rows("SELECT id, conversation_id FROM messages WHERE status = 'ready'")
    ]
    for queue in ("reply", "send.twilio"):
        await system.take_all(queue)
    requests = []
    for _ in range(REQUESTS):
        conversation = await stage.converse(customer=customer(next(numbers)))
        requests.append(await stage.requested(conversation, "a message requested"))
    said = [stage.said("message 2", sender=customer(next(numbers))) for _ in range(WEBHOOKS)]
    return {"persist": [*said], "reply": [*replies], "window": [*requests], "send.twilio": [*admitted]}


@pytest.mark.timeout(420)
async def test_ten_orderly_restarts_with_full_prefetch_dead_letter_and_lose_nothing(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    # The hints that the test publishes shall be what leads on: the rows are due much later.
    late: dict[str, Any] = {"handoff_lease": 300.0, "reply_lease": 5.0, "stop_grace": 0.3, "unknown_check_after": 300.0}
    async with playing(stack, settings, tmp_path, channel=channel_settings(), **late) as system:
        waiting = await prepare(system)
        for messages in waiting.values():
            for message in messages:
                await system.stage.deliver(message)  # one by one: each is an envelope of its own

        async def in_hand() -> dict[str, int]:
            return {name: len(waiting[name]) - await system.stage.depth(name) for name in PREFETCH}

        async with nothing_finishes(system):
            for restart in range(RESTARTS):
                await system.start("all")
                # What came back twice is suspected of killing its consumer, and then taken one at a time.
                full = PREFETCH if restart < 2 else dict.fromkeys(PREFETCH, 1)
                what = f"hands as full as {full} at restart {restart}"
                await system.until_holds(in_hand, partial(at_least, full), within=60, what=what)
                await system.terminate("all")
        await system.start("all")
        await verdicts.terminal(system)
        seen = await system.stage.sandbox.messages()
        await verdicts.sent_once(system, seen)
        taken = [message.to for message in seen if message.outcome == "accepted"]
        assert len(taken) == len(set(taken)) == WEBHOOKS + REPLIES + REQUESTS + SENDS
        await verdicts.no_dead_letters(system)
        left = {queue.name: await system.stage.depth(queue.name) for queue in topology.QUEUES}
        assert not any(left.values()), f"still in the queues: {left}"
