"""Row 3: from a customer's webhook to the provider's receipt of the answer, through every process.

Ours is the whole Procfile with the rules engine and no debounce. The floor has the same hops, each a process: publish,
then four times take, commit, publish or, the last, POST to the provider. The provider is one sandbox for both.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ops.demo.twilio import DEMO
from ops.errors import Problem
from ops.local.supervisor import read_procfile
from ops.sandbox.client import SandboxClient
from tests.bench import queues
from tests.bench.arena import CHECKOUT, Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, percentile
from tests.bench.webhooks import phone

ROW = "path"
RATE = 20.0  # webhooks a second
WEBHOOKS = 300  # a round
WARM_UP = 60
WITHIN = 30.0  # seconds for the last answer to arrive
FLOOR_QUEUES = ("floor-1", "floor-2", "floor-3", "floor-4")


@dataclass(slots=True)
class Side:
    """The floor or ours: where its webhooks go in, its processes, and the milliseconds of each round."""

    entrance: str
    processes: Sequence[Process]
    rounds: list[list[float]] = field(default_factory=list)

    def shares(self, share: float) -> list[float]:
        return [percentile(waits, share) for waits in self.rounds]


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where an answer is missing, or there are two."""
    sandbox = arena.spawn("sandbox", ["-m", "ops.sandbox"], {}, serves=True)
    await arena.ready(sandbox)
    floor, ours = await _floor(arena, sandbox), await _ours(arena, sandbox)
    async with SandboxClient(sandbox.url) as client:
        first = 0
        for number in range(rounds + 1):
            count = WEBHOOKS if number else WARM_UP
            for side in (floor, ours):
                waits = await _round(arena, client, side, first, count)
                first += count
                if number:
                    side.rounds.append(waits)
                await client.clear()
            arena.check(sandbox, *floor.processes, *ours.processes)
            advance()
    result = Result(
        ROW,
        f"{WEBHOOKS} webhooks a round, {RATE:g} a second by the clock, each from a customer who never wrote before; "
        "from the first byte of the webhook to the sandbox's receipt of the answer. Relay and clock run too, and the "
        "sandbox sends our side the three receipts of each answer; the floor gets none.",
        [
            Measure(ROW, "p50", "ms", Goal("at most", 3.0), floor.shares(0.5), ours.shares(0.5)),
            Measure(ROW, "p99", "ms", Goal("at most", 5.0), floor.shares(0.99), ours.shares(0.99)),
        ],
        [
            *(Peak(ROW, process.name, process.peak(), ours=False) for process in floor.processes),
            *(Peak(ROW, process.name, process.peak()) for process in ours.processes),
        ],
    )
    arena.end(*floor.processes, *ours.processes, sandbox)
    return result


async def _floor(arena: Arena, sandbox: Process) -> Side:
    variables = {
        "AMQP_URL": arena.vhost("path-floor"),
        "DATABASE_URL": arena.database("path_floor"),
        "TWILIO_API_URL": sandbox.url,
    }
    entrance = arena.spawn(
        "floor-ingress", ["-m", "tests.bench.floor_ingress", FLOOR_QUEUES[0]], variables, serves=True
    )
    hops = [
        arena.spawn(f"floor-hop-{number}", ["-m", "tests.bench.floor_hops", *role], variables)
        for number, role in enumerate(
            (
                ("pass", FLOOR_QUEUES[0], FLOOR_QUEUES[1]),
                ("pass", FLOOR_QUEUES[1], FLOOR_QUEUES[2]),
                ("pass", FLOOR_QUEUES[2], FLOOR_QUEUES[3]),
                ("send", FLOOR_QUEUES[3]),
            ),
            start=1,
        )
    ]
    await arena.ready(entrance)
    async with asyncio.timeout(30):
        for hop, name in zip(hops, FLOOR_QUEUES, strict=True):
            while not await queues.consumers(variables["AMQP_URL"], name):
                arena.check(hop)
                await asyncio.sleep(0.1)
    return Side(entrance.url, [entrance, *hops])


async def _ours(arena: Arena, sandbox: Process) -> Side:
    variables = {
        "AMQP_URL": arena.vhost("path"),
        "DATABASE_URL": arena.database("path"),
        "PALOMAR_TWILIO_API_URL": sandbox.url,
    }
    commands = read_procfile(CHECKOUT / "Procfile")
    receive = arena.spawn("receive", commands.pop("receive").split()[1:], variables, serves=True)
    variables["PALOMAR_PUBLIC_URL"] = receive.url
    workers = [arena.spawn(name, command.split()[1:], variables, serves=True) for name, command in commands.items()]
    await arena.ready(receive, *workers)
    return Side(receive.url, [receive, *workers])


async def _round(arena: Arena, client: SandboxClient, side: Side, first: int, count: int) -> list[float]:
    """Milliseconds of each webhook of a round. The first customer has the number `first`."""
    arguments = [DEMO.webhook_url(side.entrance), str(count), "FILE", "--rate", str(RATE), "--first", str(first)]
    answer = await arena.result("load", "load", arguments, {})
    started = {customer: at for customer, at, _, status in answer["sent"] if 200 <= status < 300}
    if len(started) != count:
        raise Problem(f"{count - len(started)} of {count} webhooks were not taken.", "Look at the logs.")
    try:
        seen = await client.wait(count=count, within=WITHIN)
    except TimeoutError as error:
        raise Problem(f"Answers are missing: {error}.", f"The logs are in {arena.stack.root}/logs.") from error
    arrived = {message.to: message.received_at.monotonic for message in seen}
    if len(seen) != count or len(arrived) != count:
        raise Problem(f"{len(seen)} answers to {len(arrived)} customers, not {count}.", "Report it.")
    await asyncio.sleep(0.5)  # the receipts of the last ones
    return [(arrived[f"whatsapp:{phone(customer)}"] - at) * 1000 for customer, at in started.items()]
