"""Row "peers": Palomar against what a team would build instead (tests/bench/peers), on the same servers.

In each round each side is started alone on an empty database and virtual host. A burst of webhooks gives conversations
a second, CPU and memory; webhooks by the clock give the time from a webhook to the provider's receipt of the answer.
The provider is one sandbox. It sends no delivery receipts, for the peers would not take them.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from statistics import median
from typing import Final, Literal

from ops.errors import Problem
from ops.sandbox.client import SandboxClient
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Result, Table, percentile
from tests.bench.peers import disturbed as outage
from tests.bench.peers import usage
from tests.bench.peers.disturbed import Disturbed, disturbed
from tests.bench.peers.sides import ALL, FASTSTREAM, INLINE, PALOMAR, Side, Start
from tests.bench.webhooks import phone

ROW: Final = "peers"
WARM_UP: Final = 100  # webhooks, after each start
BURST: Final = 600  # webhooks
CONNECTIONS: Final = 64
RATE: Final = 20.0  # webhooks a second
BY_THE_CLOCK: Final = 160  # webhooks
WITHIN: Final = 60.0  # seconds for the last answer to arrive
AFTERWARDS: Final = 1.0  # seconds of CPU after the last answer: its record, and events, follow it
MOST_CPU: Final = 4.0  # ms a conversation
MOST_MEMORY: Final = 400.0  # MiB, all processes of Palomar together
MOST_LATE: Final = 5.0  # seconds after an outage of the broker


@dataclass(frozen=True, slots=True)
class Round:
    """One side in one round. Times are ms, memory is MiB."""

    acknowledged: float  # webhooks a second
    conversations: float  # a second
    cpu: Mapping[str, float]  # of a conversation, by process and server
    p50: float
    p99: float
    memory: float

    @property
    def all_cpu(self) -> float:
        return sum(self.cpu.values())


@dataclass(frozen=True, slots=True)
class Answered:
    """A load's webhooks, each answered once."""

    sent: Sequence[tuple[float, float]]  # started, acknowledged
    waits: Sequence[float]  # ms from the first byte of the webhook to the provider's receipt of its answer
    last: float  # when the last answer arrived


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a webhook was refused, or an answer is missing or came twice."""
    _check_packages()
    found: dict[str, list[Round]] = {name: [] for name in ALL}
    sandbox = arena.spawn("sandbox", ["-m", "ops.sandbox"], {}, serves=True)
    await arena.ready(sandbox)
    async with SandboxClient(sandbox.url) as client:
        await client.faults({"provider": "twilio", "action": "no_receipts"})
        for _ in range(rounds):  # none to warm up: each side is started anew, and warmed up, in each
            for name, start in ALL.items():
                found[name].append(await _round(arena, sandbox, client, start))
            advance()
        faults = {name: await disturbed(arena, sandbox, client, start) for name, start in ALL.items()}
        advance()
    arena.end(sandbox)
    return _result(found, faults)


def _check_packages() -> None:
    """Raises Problem where what the peers are built with is not installed."""
    if find_spec("faststream") is None:
        raise Problem(
            "The peers need FastStream, which is not installed.",
            f"Install the extra `bench` of pyproject.toml: {sys.executable} -m pip install 'faststream[rabbit]<0.8'",
        )


async def _round(arena: Arena, sandbox: Process, client: SandboxClient, start: Start) -> Round:
    side = await start(arena, sandbox)
    burst = ("--connections", str(CONNECTIONS))
    await _answered(arena, client, side, 0, WARM_UP, burst)
    before = usage.cpu(arena.stack, side.processes)
    answered = await _answered(arena, client, side, WARM_UP, BURST, burst)
    await asyncio.sleep(AFTERWARDS)
    after = usage.cpu(arena.stack, side.processes)
    waits = (await _answered(arena, client, side, WARM_UP + BURST, BY_THE_CLOCK, ("--rate", str(RATE)))).waits
    memory = usage.memory(side.processes) / 1024**2
    arena.check(*side.processes)
    arena.end(*side.processes)
    began = min(started for started, _ in answered.sent)
    return Round(
        BURST / (max(at for _, at in answered.sent) - began),
        BURST / (answered.last - began),
        {part: (seconds - before[part]) * 1000 / BURST for part, seconds in after.items()},
        percentile(waits, 0.5),
        percentile(waits, 0.99),
        memory,
    )


async def _answered(
    arena: Arena, client: SandboxClient, side: Side, first: int, count: int, how: tuple[str, str]
) -> Answered:
    """Send so many webhooks, each from a customer of its own, and wait until each is answered."""
    await client.clear()
    answer = await arena.result("load", "load", [side.webhook_url, str(count), "FILE", *how, "--first", str(first)], {})
    sent = {customer: (started, at) for customer, started, at, status in answer["sent"] if 200 <= status < 300}
    if len(sent) != count:
        raise Problem(f"{side.name} took {len(sent)} of {count} webhooks.", f"Logs: {arena.stack.root}/logs.")
    try:
        seen = await client.wait(count=count, within=WITHIN)
    except TimeoutError as error:
        raise Problem(f"Answers of {side.name} are missing: {error}.", f"Logs: {arena.stack.root}/logs.") from error
    arrived = {message.to: message.received_at.monotonic for message in seen}
    if len(seen) != count or len(arrived) != count:
        raise Problem(f"{side.name}: {len(seen)} answers to {len(arrived)} customers, not {count}.", "Report it.")
    waits = [(arrived[f"whatsapp:{phone(customer)}"] - started) * 1000 for customer, (started, _) in sent.items()]
    return Answered([*sent.values()], waits, max(arrived.values()))


def _result(found: Mapping[str, Sequence[Round]], faults: Mapping[str, Disturbed]) -> Result:
    ours, faststream, inline = found[PALOMAR], found[FASTSTREAM], found[INLINE]

    def against(name: str, unit: Literal["/s", "ms"], goal: Goal, peer: Sequence[Round], figure: str) -> Measure:
        return Measure(
            ROW, name, unit, goal, [getattr(one, figure) for one in peer], [getattr(one, figure) for one in ours]
        )

    def within(name: str, unit: Literal["ms", "MiB"], most: float, figure: str) -> Measure:
        return Measure(
            ROW, name, unit, Goal("at most", 1.0), [most] * len(ours), [getattr(one, figure) for one in ours]
        )

    return Result(
        ROW,
        f"The floor is the peer that is named, or what the goal allows. A burst of {BURST} webhooks over {CONNECTIONS} "
        f"connections, each from a customer of its own; then {BY_THE_CLOCK} webhooks, {RATE:g} a second. CPU is of all "
        "processes of a side, the broker and the database, memory the PSS of all processes of a side. Then the process "
        f"that sends is killed under a load of {outage.RATE:g} webhooks a second, and the broker is restarted. The "
        "provider tries a webhook up to six times. Refused: never acknowledged. Unanswered: acknowledged, and not "
        f"answered for {outage.LONGEST:g} s after the broker's return. Lost: unanswered, and not in the side's own "
        "database as not sent or of unknown outcome.",
        [
            against("conversations, FastStream", "/s", Goal("at least", 2.0), faststream, "conversations"),
            against("conversations, inline", "/s", Goal("at least", 0.7), inline, "conversations"),
            against("acknowledged, FastStream", "/s", Goal("at least", 1.0), faststream, "acknowledged"),
            against("acknowledged, inline", "/s", Goal("at least", 1.0), inline, "acknowledged"),
            within("CPU a conversation", "ms", MOST_CPU, "all_cpu"),
            against("p50, FastStream", "ms", Goal("at most", 1.0), faststream, "p50"),
            against("p99, FastStream", "ms", Goal("at most", 1.0), faststream, "p99"),
            within("memory of all processes", "MiB", MOST_MEMORY, "memory"),
            Measure(
                ROW,
                "answered after an outage",
                "s",
                Goal("at most", 1.0),
                [MOST_LATE],
                [faults[PALOMAR].answered_after],
            ),
        ],
        seen={
            "sides": {name: [asdict(one) for one in rounds] for name, rounds in found.items()},
            "faults": {name: asdict(one) for name, one in faults.items()},
        },
        tables=[_sides(found), _faults(faults)],
        failures=[
            f"{ROW}, faults: Palomar lost {one.lost}, refused {one.refused} and doubled {one.doubled} of {one.sent}"
            for one in (faults[PALOMAR],)
            if one.lost or one.refused or one.doubled
        ],
    )


def _faults(faults: Mapping[str, Disturbed]) -> Table:
    columns = ("", "webhooks", "refused", "unanswered", "lost", "doubled", "broker away", "all answered after")
    return Table(
        f"{outage.RATE:g} webhooks a second; the process that sends is killed, then the broker is restarted",
        columns,
        [
            (
                name,
                *map(str, (one.sent, one.refused, one.unanswered, one.lost, one.doubled)),
                f"{one.away:.1f} s",
                f"{one.answered_after:.1f} s",
            )
            for name, one in faults.items()
        ],
    )


def _sides(found: Mapping[str, Sequence[Round]]) -> Table:
    """The medians of each side, with where its CPU time goes."""
    columns = ("", "conversations/s", "acknowledged/s", "p50 ms", "p99 ms", "MiB", "ms of CPU a conversation")
    rows = []
    for name, rounds in found.items():
        parts = {part: median(one.cpu.get(part, 0.0) for one in rounds) for one in rounds for part in one.cpu}
        by_size = sorted(parts.items(), key=lambda part: -part[1])
        rows.append(
            (
                name,
                *(
                    f"{median(getattr(one, figure) for one in rounds):,.0f}"
                    for figure in ("conversations", "acknowledged", "p50", "p99", "memory")
                ),
                f"{median(one.all_cpu for one in rounds):.1f}: {', '.join(f'{part} {ms:.1f}' for part, ms in by_size)}",
            )
        )
    return Table("each side, medians", columns, rows)
