"""One fault after the other while conversations flow: what the fault run does once, and `palomar soak` for hours."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import aio_pika

from shared.queue import topology
from tests.faults.customers import Customers
from tests.faults.hostile import hostile_tenant
from tests.faults.staging import System

WORKERS: Final = ("persist", "reply", "window", "send", "relay", "clock", "receive")
EVERYBODY: Final = (
    "receive", "persist.1", "persist.2", "reply.1", "reply.2", "window.1", "window.2", "send.1", "send.2", "send.3",
    "relay.1", "relay.2", "clock.1", "clock.2",
)  # fmt: skip
# The kinds with a provider's own code, and the fewest processes of a system whose customers are answered.
WITH_PROVIDERS: Final = ("receive", "persist", "send")
FEW: Final = ("receive", "persist.1", "reply.1", "window.1", "send.1", "send.2", "relay.1", "clock.1")
EVENTS: Final = "test.events"
FLOW: Final = 8  # messages answered between two faults, at least
AT_WORK: Final = (0.0, 0.08)  # seconds into the work that piled up, when a process is killed


async def listen(system: System) -> None:
    """Collect every event that is published from now on in the queue EVENTS."""
    async with await aio_pika.connect(system.settings.amqp_url.get_secret_value()) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(EVENTS, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(topology.EVENTS, "#")


async def poison(system: System, body: bytes) -> None:
    """Put something undecodable into persist's queue."""
    async with await aio_pika.connect(system.settings.amqp_url.get_secret_value()) as connection:
        channel = await connection.channel()
        work = await channel.get_exchange(topology.WORK, ensure=False)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await work.publish(message, topology.PERSIST.name)


async def kill_each_kind(
    system: System, customers: Customers, dice: random.Random, kinds: Sequence[str] = WORKERS
) -> None:
    """Of each kind all processes at once and amid their work, and start them again; then conversations must flow."""
    for kind in kinds:
        names = system.names(kind)
        await system.kill_at_work(*names, after=dice.uniform(*AT_WORK))
        await system.start(*names)
        await customers.answered_more(FLOW)


async def kill_broker(system: System, customers: Customers) -> None:
    system.kill_broker()
    await system.start_broker()
    await customers.answered_more(FLOW)


async def crash_database(system: System, customers: Customers) -> None:
    await system.stop_database()
    await system.start_database()
    await customers.answered_more(FLOW)


async def kill_senders(system: System, customers: Customers, dice: random.Random, times: int) -> None:
    """One after the other: what they have in hand is what may become unknown."""
    for _ in range(times):
        name = dice.choice(system.names("send"))
        await system.kill_at_work(name, after=dice.uniform(*AT_WORK))
        await system.start(name)
        await customers.answered_more(FLOW)


async def by_chance(system: System, customers: Customers, dice: random.Random) -> str:
    """One fault, or two at once; then everything is started again, and conversations must flow. Says what it did."""
    names = sorted(dice.sample(EVERYBODY, dice.randint(1, 5)))
    downtime = dice.uniform(0.0, 15.0)
    what = dice.choice(["kill", "kill", "kill a kind", "terminate", "broker", "database", "both", "hostile tenant"])
    match what:
        case "hostile tenant":
            return await hostile_tenant(system, customers)
        case "kill":
            await system.kill_at_work(*names, after=dice.uniform(*AT_WORK))
        case "kill a kind":
            names = system.names(dice.choice(WORKERS))
            await system.kill_at_work(*names, after=dice.uniform(*AT_WORK))
        case "terminate":
            await system.terminate(*names)
        case _:
            if what != "database":
                system.kill_broker()
            if what != "broker":
                await system.stop_database()
            others = [name for name in names if not name.startswith("send")]  # whose sends could not be looked at now
            names = others if dice.random() < 0.5 else []
            await system.kill(*names)
            await asyncio.sleep(downtime)  # the outage itself
            system.launch(*dice.sample(names, dice.randint(0, len(names))))  # some come up while it is still away
            if what != "broker":
                await system.start_database()
            if what != "database":
                await system.start_broker()
            what = f"{what} down for {downtime:.0f} s, kill"
    system.launch(*(name for name in names if not system.runs(name)))
    await system.ready(*EVERYBODY)
    await customers.answered_more(FLOW)
    return f"{what} {', '.join(names) or 'nobody'}"
