"""Row `isolation`: what a provider's sends take while every call of another one hangs.

Two systems of the workers window, send and clock, each with a sandbox of its own. Both send as much through one
provider as through the other; at the second one the other provider answers no call. Ours is that system, the floor the
one in which nothing hangs. Both ways round.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from ops.demo.channel import DemoChannel
from ops.demo.meta import DEMO_META
from ops.demo.twilio import DEMO
from ops.errors import Problem
from ops.local.supervisor import read_procfile
from ops.sandbox.client import SandboxClient
from shared import database
from shared.queue.jobs import SendRequested
from shared.queue.publisher import Publisher
from shared.store import conversations
from shared.store.messages import outbound
from tests.bench.arena import CHECKOUT, Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, percentile
from tests.bench.webhooks import phone

ROW: Final = "isolation"
RATE: Final = 30.0  # messages a second and provider
MESSAGES: Final = 300  # a round and provider
WARM_UP: Final = 60
WITHIN: Final = 30.0  # seconds for the last one to arrive
HANGS: Final = 60.0  # seconds
OWED_FOR: Final = timedelta(minutes=10)  # until the clock would publish again what waits for its turn in a round
WORKERS: Final = ("window", "send", "clock")
GOAL: Final = Goal("at most", 1.5)
PROVIDERS: Final[Mapping[str, DemoChannel]] = {"twilio": DEMO, "meta": DEMO_META}


@dataclass(slots=True)
class Side:
    """One system: its processes, the way into it, and the milliseconds of each round."""

    processes: Sequence[Process]
    sandbox: SandboxClient
    pool: database.Pool
    publisher: Publisher
    rounds: list[list[float]] = field(default_factory=list)

    def shares(self, share: float) -> list[float]:
        return [percentile(waits, share) for waits in self.rounds]


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a message is missing, or came twice."""
    measures: list[Measure] = []
    peaks: dict[str, Peak] = {}
    for healthy, hanging in (("twilio", "meta"), ("meta", "twilio")):
        floor, ours = await _side(arena, "isolation-floor"), await _side(arena, "isolation")
        await ours.sandbox.faults({"provider": hanging, "action": "hang", "seconds": HANGS})
        first = 0
        for number in range(rounds + 1):
            count = MESSAGES if number else WARM_UP
            for side in (floor, ours) if number % 2 else (ours, floor):
                waits = await _round(side, healthy, hanging, first, count)
                if number:
                    side.rounds.append(waits)
            first += count
            arena.check(*floor.processes, *ours.processes)
            if healthy == "meta":
                advance()
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            named = f"{name} of {healthy}, {hanging} hanging"
            measures.append(Measure(ROW, named, "ms", GOAL, floor.shares(share), ours.shares(share)))
        for process in ours.processes[1:]:
            before = peaks.get(process.name)
            peak = max((bytes_ for bytes_ in (before and before.bytes, process.peak()) if bytes_), default=None)
            peaks[process.name] = Peak(ROW, process.name, peak)
        for side in (floor, ours):
            await _close(arena, side)
    return Result(
        ROW,
        f"{MESSAGES} messages a round through each provider, {RATE:g} a second by the clock, each to a customer of its "
        f"own; from the message to the window to the sandbox's receipt of it. Ours: every call of the other provider "
        f"hangs {HANGS:g} s. The floor: none does.",
        measures,
        list(peaks.values()),
    )


async def _side(arena: Arena, name: str) -> Side:
    sandbox = arena.spawn(f"{name}-sandbox", ["-m", "ops.sandbox"], {}, serves=True)
    amqp_url, database_url = arena.vhost(name), arena.database(name.replace("-", "_"))
    variables = {
        "AMQP_URL": amqp_url,
        "DATABASE_URL": database_url,
        "PALOMAR_TWILIO_API_URL": sandbox.url,
        "PALOMAR_META_API_URL": sandbox.url,
    }
    commands = read_procfile(CHECKOUT / "Procfile")
    workers = [arena.spawn(worker, commands[worker].split()[1:], variables, serves=True) for worker in WORKERS]
    await arena.ready(sandbox, *workers)
    settings = arena.settings(amqp_url=amqp_url, database_url=database_url)
    publisher = Publisher(amqp_url, "bench", timeout=settings.publish_timeout, delays=settings.retry_delays)
    await publisher.start()
    await asyncio.wait_for(publisher.wait_ready(), 30)
    pool = await database.make_pool(settings, process="bench", size=2)
    client = await SandboxClient(sandbox.url).__aenter__()
    await client.faults(*({"provider": provider, "action": "no_receipts"} for provider in PROVIDERS))
    return Side([sandbox, *workers], client, pool, publisher)


async def _close(arena: Arena, side: Side) -> None:
    await side.sandbox.__aexit__(None, None, None)
    await side.publisher.close()
    side.pool.terminate()
    arena.end(*side.processes)


async def _round(side: Side, healthy: str, hanging: str, first: int, count: int) -> list[float]:
    """Milliseconds of each message of a round through the healthy provider. The first customer has number `first`."""
    customers = range(first, first + count)
    await side.sandbox.clear()
    owed = [await _owe(side.pool, PROVIDERS[provider], customers) for provider in (healthy, hanging)]
    started = await _publish_all(side.publisher, list(zip(*owed, strict=True)))
    numbers = {phone(customer): at for customer, at in zip(customers, started, strict=True)}
    deadline = time.monotonic() + WITHIN
    while True:
        seen = [message for message in await side.sandbox.messages() if message.provider == healthy]
        arrived = {message.to.rpartition(":")[2]: message.received_at.monotonic for message in seen}
        if len(seen) >= count:
            break
        if time.monotonic() > deadline:
            raise Problem(f"{len(seen)} of {count} messages arrived.", "Look at the logs.")
        await asyncio.sleep(0.2)
    arrived = {number if number.startswith("+") else f"+{number}": at for number, at in arrived.items()}
    if len(seen) != count or arrived.keys() != numbers.keys():
        raise Problem(f"{len(seen)} messages to {len(arrived)} customers, not {count}.", "Report it.")
    return [(arrived[number] - at) * 1000 for number, at in numbers.items()]


async def _owe(pool: database.Pool, demo: DemoChannel, customers: Sequence[int]) -> list[SendRequested]:
    """A message to each of these customers, who have all just written; no job is published yet."""
    requests = []
    async with pool.acquire() as connection, connection.transaction():
        for customer in customers:
            number, contact = phone(customer), database.new_id()
            await connection.execute("INSERT INTO contacts (id, tenant_id) VALUES ($1, $2)", contact, demo.tenant_id)
            wanted = conversations.WantedConversation(
                tenant_id=demo.tenant_id, channel_id=demo.channel_id, provider=demo.provider, addresses=(number,),
                recipient=number, phone=number, contact_id=contact, contact_name="",
            )  # fmt: skip
            (found,) = await conversations.find_or_make(connection, [wanted])
            await connection.execute(
                "UPDATE conversations SET last_user_message_at = now() WHERE tenant_id = $1 AND id = $2",
                demo.tenant_id, found.id,
            )  # fmt: skip
            message = outbound.NewMessage(
                tenant_id=demo.tenant_id,
                conversation_id=found.id,
                channel_id=demo.channel_id,
                provider=demo.provider,
                dedupe_key=f"bench:{contact}",
                content="Hello! Thank you for writing to us.",
            )
            request = await outbound.add_outbound(connection, message, OWED_FOR)
            if request is None:
                raise Problem("A message was not made.", "This must never happen; report it.")
            requests.append(request)
    return requests


async def _publish_all(publisher: Publisher, owed: Sequence[tuple[SendRequested, ...]]) -> list[float]:
    """Publish these at a steady rate, both providers' together; returns the monotonic seconds of each."""
    beginning = time.monotonic() + 0.1
    started: list[float] = []
    under_way = []
    for index, requests in enumerate(owed):
        await asyncio.sleep(max(0.0, beginning + index / RATE - time.monotonic()))
        started.append(time.monotonic())
        under_way += [asyncio.create_task(publisher.publish(request)) for request in requests]
    await asyncio.gather(*under_way)
    return started
