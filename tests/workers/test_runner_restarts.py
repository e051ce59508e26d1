"""Processes that stop in order, that are killed, and that die on an item: nothing is lost, nobody else is buried."""

import asyncio
import signal
import time
from collections.abc import Sequence

import pytest

from shared.queue.delivery import ATTEMPT, REASON
from shared.settings import Settings
from tests.support.runner_stage import QUEUE, Bench, Job, bench, header, items_of, jobs, names, until

PREFETCH = 20


async def _in_hand(stage: Bench, published: int) -> None:
    """Return once a process has taken something."""

    async def taken() -> bool:
        return await stage.depth(QUEUE.name) < published

    await until(taken, "something in hand")


async def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> float:
    """End it; returns the seconds that took."""
    started = time.monotonic()
    process.send_signal(number)
    await asyncio.wait_for(process.wait(), 30)
    return time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_ten_restarts_with_full_prefetch_bury_and_lose_nothing(
    settings: Settings, number: signal.Signals
) -> None:
    async with bench(settings, stop_grace=25.0) as stage:
        alone = jobs(200, act="wait 0.2")
        together = jobs(60, act="wait 0.2", prefix="together")
        for start in range(0, 60, 30):
            await stage.put_envelope(*together[start : start + 30])
        for item in alone:
            await stage.publish(item)
        for _ in range(10):
            before = await stage.depth(QUEUE.name)
            async with stage.process(PREFETCH) as process:
                await _in_hand(stage, before)
                took = await _end(process, number)
                assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
            assert took < 20  # the grace is not waited for
        async with stage.process(PREFETCH):
            await stage.until_done(names([*alone, *together]))
            await stage.until_depth(QUEUE.name, 0)
        assert await stage.depth(QUEUE.dead) == 0
        if number == signal.SIGTERM:  # what was in hand was finished, the rest had not been begun
            counts = await stage.pool.fetch("SELECT count FROM effects WHERE name LIKE 'job-%'")
            assert {row["count"] for row in counts} == {1}


async def _restart_until_buried(stage: Bench) -> int:
    """Start the worker again whenever it died, as a supervisor does, until something is buried; how often it died."""
    deaths = 0
    while not await stage.depth(QUEUE.dead):
        assert deaths < 40
        async with stage.process() as process:
            ended = asyncio.create_task(process.wait())
            while not ended.done() and not await stage.depth(QUEUE.dead):
                await asyncio.wait({ended}, timeout=0.2)
            deaths += ended.done()
            ended.cancel()
    return deaths


@pytest.mark.parametrize("together", [True, False], ids=["in its envelope", "beside it in the queue"])
async def test_an_item_that_kills_its_consumer_buries_nobody_else(settings: Settings, together: bool) -> None:
    async with bench(settings, retry_delays=(0.1,)) as stage:
        poison = Job(name="poison", act="exit")
        neighbours = [*jobs(8), *jobs(8, prefix="after")]
        items = [*neighbours[:8], poison, *neighbours[8:]]
        await _put(stage, items, together)
        deaths = await _restart_until_buried(stage)
        async with stage.process():
            await stage.until_done(names(neighbours))
        (buried,) = await stage.dead()
        assert await stage.depth(QUEUE.name) == 0
    assert [item["name"] for item in items_of(buried)] == ["poison"]
    assert "went while they had it in hand" in header(buried, REASON)
    assert header(buried, ATTEMPT) == 2
    assert deaths <= 16


async def _put(stage: Bench, items: Sequence[Job], together: bool) -> None:
    if together:
        await stage.put_envelope(*items)
    else:
        for item in items:
            await stage.publish(item)


async def test_a_queue_of_one_at_a_time_has_one_at_a_time_from_its_start(settings: Settings) -> None:
    async with bench(settings) as stage:
        for item in jobs(4, act="wait 2"):
            await stage.publish(item)
        async with stage.process(1):
            await _in_hand(stage, 4)
            for _ in range(10):
                await asyncio.sleep(0.1)
                assert await stage.depth(QUEUE.name) == 3
