"""Whatever is killed while events flow, each reaches each webhook under one id, and the log tells every attempt."""

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from ops.local.stack import Stack
from ops.soak import EVENTS, SEED
from shared.settings import Settings
from tests.faults.staging import System, playing
from tests.faults.webhook_run import AT_ONCE, DOWN, PATHS, POINTS, TALKS, Run, chance
from tests.support import webhooks
from tests.support.webhook_receiver import OK, receiving

pytestmark = pytest.mark.heavy

SEED_OF_THE_SUITE: Final = 20261129
VICTIMS: Final = ("webhook.1", "webhook.2")
LEASES: Final[Mapping[str, Any]] = {"webhook_timeout": 2.0, "webhook_lease": 2.0}


@dataclass
class Kills:
    """Who died where. `mean`: how often a worker comes to a point before it dies there, on average."""

    dice: random.Random
    mean: int
    for_ever: bool  # else a worker dies once at each point, and then lives
    struck: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._points: Iterator[str] = itertools.cycle(POINTS) if self.for_ever else iter(POINTS)

    def next_point(self) -> str | None:
        point = next(self._points, None)
        return None if point is None else f"{point}:{self.dice.randint(1, 2 * self.mean - 1)}"

    def missing(self) -> list[str]:
        return [point for point in POINTS if not self.struck[point]]


async def die_in_turn(system: System, name: str, kills: Kills, is_over: Callable[[], bool]) -> None:
    """Start this worker again and again, each time to die at another point, until all events are there."""
    while True:
        point = kills.next_point()
        system.launch(name, dies_at=point)
        while not await system.died(name):
            if is_over():
                return
            await asyncio.sleep(0.05)
        assert point is not None, f"{name} was to live"
        kills.struck[point.partition(":")[0]] += 1


async def killed(
    stack: Stack, settings: Settings, folder: Path, count: int, seed: object, *, mean: int, for_ever: bool,
    within: float,
) -> str:  # fmt: skip
    """Let `count` events happen while the webhooks' workers, the broker and the database die; returns the figures."""
    kills = Kills(random.Random(str(seed)), mean, for_ever)
    async with receiving() as receiver, playing(stack, settings, folder, **webhooks.LOCAL, **LEASES) as system:
        stage = system.stage
        made = {
            path: await webhooks.add(
                stage.pool, system.settings, stage.ours.tenant_id, receiver.url(path), ("other",),
                in_order=path == "/order",
            )
            for path in PATHS
        }  # fmt: skip
        talks = [await stage.converse(customer=f"+3460000000{number}") for number in range(TALKS)]
        run = Run(system, receiver, {path: one.stored.id for path, one in made.items()}, talks)
        receiver.decides("/well", chance(f"{seed} well"))
        receiver.decides("/order", chance(f"{seed} order"))
        receiver.answers("/down", DOWN)
        over = asyncio.Event()
        await system.start("clock.1")
        async with asyncio.TaskGroup() as dying:
            for name in VICTIMS:
                dying.create_task(die_in_turn(system, name, kills, over.is_set))
            await flow(run, count, kills, {0.4: broker, 0.7: database})
            over.set()
        await system.kill(*(name for name in VICTIMS if system.runs(name)))
        await system.start(*VICTIMS)
        receiver.answers("/down", OK)
        took = await run.all_arrive(count, within)
        assert not kills.missing(), f"no worker died at {kills.missing()}"
        deaths = ", ".join(f"{point} {times}" for point, times in sorted(kills.struck.items()))
        return f"{await run.verdict(count)}; {took:.0f} s to the last one; deaths: {deaths}"


async def flow(run: Run, count: int, kills: Kills, faults: dict[float, Callable[[System], Awaitable[str]]]) -> None:
    """Let the events happen, and each fault once this share of them has; then go on until each point had its death."""
    assert count % AT_ONCE == 0
    for first in range(1, count + 1, AT_ONCE):
        await run.happen(first)
        for share in [share for share in faults if share <= first / count]:
            print(f"{share:.0%}: {await faults.pop(share)(run.system)}", flush=True)
        await asyncio.sleep(0 if kills.for_ever else 0.1)
    for _ in range(600):
        if not kills.missing():
            return
        for one in run.ids.values():
            await webhooks.hasten(run.system.stage.pool, one)  # so that there is something to die at
        await asyncio.sleep(0.1)


async def broker(system: System) -> str:
    system.kill_broker()
    await system.start_broker()
    return "the broker was killed and started"


async def database(system: System) -> str:
    await system.stop_database()
    await system.start_database()
    return "the database crashed and recovered"


@pytest.mark.soak
@pytest.mark.timeout(240)
async def test_each_event_reaches_each_webhook_wherever_a_worker_is_killed(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    print(await killed(stack, settings, tmp_path, 300, SEED_OF_THE_SUITE, mean=2, for_ever=False, within=90))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_many_events_reach_each_webhook_wherever_a_worker_is_killed(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    count = max(300, int(os.environ[EVENTS]) // 20 // AT_ONCE * AT_ONCE)
    mean = max(2, count // 1000)  # as matching comes to its points once in up to 500 events
    print(await killed(stack, settings, tmp_path, count, os.environ[SEED], mean=mean, for_ever=True, within=600))
