"""Row `webhooks`: deliveries to 200 tenants' webhooks, and what they take while a fifth of these hang.

Two systems of the workers webhook and clock, each with a receiver of its own. At the second one every call of 40
webhooks hangs. Its figures are those of the other 160, and its floor is the same 160 of the first one. The floor of the
first one is an aiohttp client that POSTs signed bodies from memory to the same receiver, in one process as ours.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ops.errors import Problem
from ops.local.postgres import SUPERUSER
from ops.local.supervisor import read_procfile
from shared import database
from tests.bench import webhook_rows
from tests.bench.arena import CHECKOUT, Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, middle_rate, percentile
from tests.support.webhook_receiver_process import ReceiverClient

ROW: Final = "webhooks"
WEBHOOKS: Final = 200
HANGING: Final = 40
CONNECTIONS: Final = 100  # of the floor's client
BURST: Final = 6_000  # events in one transaction
RATE: Final = 50.0  # events a second, each in a transaction of its own
STEADY: Final = 300  # of them
WITHIN: Final = 45.0  # seconds for the last one to arrive
FASTEST: Final = Goal("at least", 0.5)
UNDISTURBED: Final = Goal("at least", 0.9)
LATEST: Final = Goal("at most", 1.5)


@dataclass(slots=True)
class Side:
    """One system, the way into it, and what its rounds gave. `hanging` are the numbers of webhooks that hang."""

    processes: Sequence[Process]
    receiver: ReceiverClient
    pool: database.Pool
    tenants: list[UUID]
    hanging: range
    every: list[float] = field(default_factory=list)  # deliveries a second, to all webhooks
    others: list[float] = field(default_factory=list)  # without those that hang at one of the systems
    waits: list[list[float]] = field(default_factory=list)  # milliseconds from commit to receipt, without these too


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a delivery is missing, or came twice."""
    floor: list[float] = []
    healthy, ours = await _side(arena, "webhooks", range(0)), await _side(arena, "webhooks-hanging", range(HANGING))
    for number in range(rounds + 1):
        bare = await _floor(arena, healthy)
        for side in (healthy, ours) if number % 2 else (ours, healthy):
            await _round(side, counts=number > 0)
        if number:
            floor.append(bare)
        arena.check(*healthy.processes, *ours.processes)
        advance()
    measures = [
        Measure(ROW, f"deliveries to {WEBHOOKS}", "/s", FASTEST, floor, healthy.every),
        Measure(ROW, f"to the others, {HANGING} hanging", "/s", UNDISTURBED, healthy.others, ours.others),
    ]
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        waits = [[percentile(one, share) for one in side.waits] for side in (healthy, ours)]
        measures.append(Measure(ROW, f"commit to receipt, {HANGING} hanging, {name}", "ms", LATEST, *waits))
    peaks = [Peak(ROW, process.name, process.peak()) for side in (healthy, ours) for process in side.processes[1:]]
    for side in (healthy, ours):
        await _close(arena, side)
    return Result(
        ROW,
        f"{WEBHOOKS} tenants with a webhook each; {BURST} events in one transaction, then {STEADY} by the clock, "
        f"{RATE:g} a second. From just before the event's commit to the receiver's receipt. The floor of the "
        f"deliveries: an aiohttp client, {CONNECTIONS} connections, that POSTs bodies from memory and signs each. With "
        f"{HANGING} hanging: the other {WEBHOOKS - HANGING}, against the same ones where none hangs.",
        measures,
        peaks,
    )


async def _side(arena: Arena, name: str, hanging: range) -> Side:
    receiver = arena.spawn(f"{name}-receiver", ["-m", "tests.support.webhook_receiver_process"], {}, serves=True)
    amqp_url, database_url = arena.vhost(name), arena.database(name.replace("-", "_"))
    variables = {
        "AMQP_URL": amqp_url,
        "DATABASE_URL": database_url,
        "PALOMAR_WEBHOOK_HTTP": "true",
        "PALOMAR_WEBHOOK_NETWORKS": '["127.0.0.0/8"]',
    }
    commands = read_procfile(CHECKOUT / "Procfile")
    workers = [
        arena.spawn(f"{name}-{worker}", commands[worker].split()[1:], variables, serves=True)
        for worker in ("webhook", "clock")
    ]
    await arena.ready(receiver, *workers)
    settings = arena.settings(amqp_url=amqp_url, database_url=database_url)
    pool = await database.make_pool(settings, process="bench", size=4)
    client = await ReceiverClient(receiver.url).__aenter__()
    urls = [client.url(f"/{number}") for number in range(WEBHOOKS)]
    superuser = arena.stack.postgres.url(SUPERUSER, database_url.rpartition("/")[2].partition("?")[0])
    tenants = await webhook_rows.store(superuser, pool, settings, urls)
    await client.hang(f"/{number}" for number in hanging)
    return Side([receiver, *workers], client, pool, tenants, hanging)


async def _close(arena: Arena, side: Side) -> None:
    await side.receiver.__aexit__(None, None, None)
    side.pool.terminate()
    arena.end(*side.processes)


async def _floor(arena: Arena, side: Side) -> float:
    """Calls a second of the bare client."""
    sizes = ["--paths", str(WEBHOOKS), "--connections", str(CONNECTIONS)]
    await side.receiver.clear()
    await arena.result("floor-webhooks", "floor_webhooks", [side.receiver.base, str(BURST), "FILE", *sizes], {})
    times = sorted(at for _, _, at in await side.receiver.received())
    if len(times) != BURST:
        raise Problem(f"The floor made {len(times)} calls, not {BURST}.", "Report it.")
    return middle_rate(list(enumerate(times, 1)))


async def _round(side: Side, *, counts: bool) -> None:
    """A burst, then events by the clock."""
    await webhook_rows.forget(side.pool, [side.tenants[number] for number in side.hanging])
    numbers = [number % WEBHOOKS for number in range(BURST)]
    await side.receiver.clear()
    await webhook_rows.happen(side.pool, [side.tenants[number] for number in numbers])
    times = await _receipts(side, numbers)
    every = sorted(at for arrived in times.values() for at in arrived)
    others = sorted(at for number, arrived in times.items() if number >= HANGING for at in arrived)
    steady = [number * 7 % WEBHOOKS for number in range(STEADY)]
    await side.receiver.clear()
    started = await _by_the_clock(side, steady)
    arrived = await _receipts(side, steady)
    waits = [
        (at - begun) * 1000
        for number in arrived
        if number >= HANGING
        for begun, at in zip(started[number], arrived[number], strict=True)
    ]
    if counts:
        side.every.append(middle_rate(list(enumerate(every, 1))))
        side.others.append(middle_rate(list(enumerate(others, 1))))
        side.waits.append(waits)


async def _by_the_clock(side: Side, numbers: Sequence[int]) -> dict[int, list[float]]:
    """Let these webhooks' events happen at RATE; the monotonic seconds of each webhook's."""
    started: dict[int, list[float]] = defaultdict(list)
    beginning = time.monotonic() + 0.1
    async with asyncio.TaskGroup() as committing:
        for index, number in enumerate(numbers):
            await asyncio.sleep(max(0.0, beginning + index / RATE - time.monotonic()))
            started[number].append(time.monotonic())
            committing.create_task(webhook_rows.happen(side.pool, [side.tenants[number]]))
    return started


async def _receipts(side: Side, numbers: Sequence[int]) -> dict[int, list[float]]:
    """The monotonic seconds of each webhook's deliveries, once all have come that do not hang.

    Raises Problem where they do not come, or more than once.
    """
    wanted = [number for number in numbers if number not in side.hanging]
    deadline = time.monotonic() + WITHIN
    while True:
        received = [one for one in await side.receiver.received() if int(one[0][1:]) not in side.hanging]
        if len(received) >= len(wanted):
            break
        if time.monotonic() > deadline:
            raise Problem(f"{len(received)} of {len(wanted)} deliveries arrived.", "Look at the logs.")
        await asyncio.sleep(0.3)
    if len({id_ for _, id_, _ in received}) != len(received):
        raise Problem("A delivery came twice.", "Report it.")
    times: dict[int, list[float]] = defaultdict(list)
    for path, _, at in received:
        times[int(path[1:])].append(at)
    return times
