"""Row `live`: events to 2,000 WebSockets of one process: how many a second, how late, and the memory of a socket.

The floor is a bare aiohttp broadcast of the same text. Ours reads what is committed, filters it, and bounds what waits
for each client. Both have the same clients. A burst of events in one transaction gives the rate; events by the clock
give the delay, from just before the event's transaction (of the floor: its request) to the client.
"""

import resource
from dataclasses import dataclass, field
from typing import Any, Final

from ops.demo.twilio import DEMO
from ops.errors import Problem
from shared import database
from shared.actions import api_keys
from shared.settings import Settings
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, percentile
from tests.bench.load_live import RATE, resident

ROW: Final = "live"
SOCKETS: Final = 2_000
BURST: Final = 100  # events at once; all of them fit into the buffer of a client
STEADY: Final = 30  # events by the clock
OTHER_FILES: Final = 200  # that a process has open besides
FASTEST: Final = Goal("at least", 0.5)
LATEST: Final = Goal("at most", 4.0)  # commit, and the wait for others that commit then, are in it
LARGEST: Final = Goal("at most", 2.0)


@dataclass(slots=True)
class Side:
    """One of the two, and what its rounds gave."""

    process: Process
    tenant: str  # `-`: the floor
    before: int  # kilobytes that it held without a socket
    rates: list[float] = field(default_factory=list)  # events a second
    p50: list[float] = field(default_factory=list)  # milliseconds
    p99: list[float] = field(default_factory=list)
    each: list[float] = field(default_factory=list)  # kilobytes of a socket


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where an event is missing, or a socket was closed."""
    _allow_files(SOCKETS + OTHER_FILES)
    url = arena.database("live")
    key = await _key(arena.settings(database_url=url))
    variables = {
        "AMQP_URL": arena.vhost("live"),
        "DATABASE_URL": url,
        "PALOMAR_API_RATE_LIMIT": "1000000000",
        "PALOMAR_API_LIVE_STREAMS": str(2 * SOCKETS),
        "PALOMAR_API_LIVE_HEARTBEAT": "600",
    }
    processes = (
        arena.spawn("floor-live", ["-m", "tests.bench.floor_live"], variables, serves=True),
        arena.spawn("api", ["-m", "ingress", "api"], variables, serves=True),
    )
    await arena.ready(*processes)
    floor, ours = (
        Side(process, tenant, resident(process.child.pid))
        for process, tenant in zip(processes, ("-", str(DEMO.tenant_id)), strict=True)
    )
    for number in range(rounds + 1):
        for side in (floor, ours) if number % 2 else (ours, floor):
            await _round(arena, side, key, variables, counts=number > 0)  # the first was to warm up
        arena.check(*processes)
        advance()
    result = Result(
        ROW,
        f"{SOCKETS} sockets of one process, a burst of {BURST} events to all of them, then {STEADY} events, "
        f"{RATE:g} a second. Ours are committed rows; the floor gets each text in a request, and knows no database.",
        [
            Measure(ROW, "events to all", "/s", FASTEST, floor.rates, ours.rates),
            Measure(ROW, "delay, p50", "ms", LATEST, floor.p50, ours.p50),
            Measure(ROW, "delay, p99", "ms", LATEST, floor.p99, ours.p99),
            Measure(ROW, "memory of a socket", "KB", LARGEST, floor.each, ours.each),
        ],
        # 2,000 sockets are more than the goal for a process's memory is about.
        [Peak(ROW, side.process.name, side.process.peak(), ours=False) for side in (floor, ours)],
    )
    arena.end(*processes)
    return result


def _allow_files(wanted: int) -> None:
    """Let this process and its children open so many files. Raises Problem where the machine does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Problem(
            f"A process may open {hard} files here, and {SOCKETS} sockets need {wanted}.", "Raise `ulimit -Hn`."
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _key(settings: Settings) -> str:
    connection = await database.connect(settings, process="bench")
    try:
        async with connection.transaction():
            return (await api_keys.create(connection, DEMO.tenant_id, "bench", ["events:read"])).key
    finally:
        await connection.close()


async def _round(arena: Arena, side: Side, key: str, variables: dict[str, str], *, counts: bool) -> None:
    process = side.process
    sizes = ["--sockets", str(SOCKETS), "--burst", str(BURST), "--steady", str(STEADY)]
    arguments = [process.url, key, side.tenant, str(process.child.pid), "FILE", *sizes]
    seen: dict[str, Any] = await arena.result("load-live", "load_live", arguments, variables)
    if seen["closed"] or any(len(one) != SOCKETS for one in seen["received"]):
        raise Problem(f"{process.name} closed {seen['closed']} sockets.", f"Its log is {process.log}.")
    if not counts:
        return
    made, received = seen["made"], seen["received"]
    side.rates.append(BURST / (max(map(max, received[:BURST])) - made[0]))
    delays = [
        (at - begun) * 1000 for begun, sockets in zip(made[BURST:], received[BURST:], strict=True) for at in sockets
    ]
    side.p50.append(percentile(delays, 0.5))
    side.p99.append(percentile(delays, 0.99))
    side.each.append((max(seen["resident"]) - side.before) / SOCKETS)
