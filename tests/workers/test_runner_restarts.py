"""Processes that stop in order, are killed, or are killed by a job: no job is lost, no other one dead-lettered."""

import asyncio
import signal
import time
from collections.abc import Sequence

import pytest

from shared.queue.delivery import ATTEMPT, REASON
from shared.settings import Settings
from tests.support.runner_stage import QUEUE, Bench, SampleJob, bench, header, jobs_of, names, sample_jobs, until

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
async def test_ten_restarts_with_full_prefetch_dead_letter_and_lose_nothing(
    settings: Settings, number: signal.Signals
) -> None:
    async with bench(settings, stop_grace=25.0) as stage:
        alone = sample_jobs(200, act="wait 0.2")
        together = sample_jobs(60, act="wait 0.2", prefix="together")
        for start in range(0, 60, 30):
            await stage.put_envelope(*together[start : start + 30])
        for job in alone:
            await stage.publish(job)
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
        assert await stage.depth(QUEUE.dead_letters) == 0
        if number == signal.SIGTERM:  # what was in hand was finished, the rest had not been begun
            counts = await stage.pool.fetch("SELECT count FROM effects WHERE name LIKE 'job-%'")
            assert {row["count"] for row in counts} == {1}


async def _restart_until_dead_lettered(stage: Bench) -> int:
    """Start the worker again whenever it was killed, until it has a dead letter; returns how often it was killed."""
    killed = 0
    while not await stage.depth(QUEUE.dead_letters):
        assert killed < 40
        async with stage.process() as process:
            ended = asyncio.create_task(process.wait())
            while not ended.done() and not await stage.depth(QUEUE.dead_letters):
                await asyncio.wait({ended}, timeout=0.2)
            killed += ended.done()
            ended.cancel()
    return killed


@pytest.mark.parametrize("together", [True, False], ids=["in its envelope", "beside it in the queue"])
async def test_a_job_that_kills_its_consumer_is_dead_lettered_alone(settings: Settings, together: bool) -> None:
    async with bench(settings, retry_delays=(0.1,)) as stage:
        poison = SampleJob(name="poison", act="exit")
        neighbours = [*sample_jobs(8), *sample_jobs(8, prefix="after")]
        jobs = [*neighbours[:8], poison, *neighbours[8:]]
        await _put(stage, jobs, together)
        killed = await _restart_until_dead_lettered(stage)
        async with stage.process():
            await stage.until_done(names(neighbours))
        (dead_letter,) = await stage.dead_letters()
        assert await stage.depth(QUEUE.name) == 0
    assert [job["name"] for job in jobs_of(dead_letter)] == ["poison"]
    assert "were killed while they held it" in header(dead_letter, REASON)
    assert header(dead_letter, ATTEMPT) == 2
    assert killed <= 16


async def _put(stage: Bench, jobs: Sequence[SampleJob], together: bool) -> None:
    if together:
        await stage.put_envelope(*jobs)
    else:
        for job in jobs:
            await stage.publish(job)


async def test_a_queue_of_one_at_a_time_has_one_at_a_time_from_its_start(settings: Settings) -> None:
    async with bench(settings) as stage:
        for job in sample_jobs(4, act="wait 2"):
            await stage.publish(job)
        async with stage.process(1):
            await _in_hand(stage, 4)
            for _ in range(10):
                await asyncio.sleep(0.1)
                assert await stage.depth(QUEUE.name) == 3
