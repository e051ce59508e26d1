"""A lock, or a statement that takes too long, is one tenant's: others go on, and no job fails by it."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest

from shared.queue import failures
from shared.resilience.circuit_breaker import Scope
from shared.settings import Settings
from tests.support.runner_stage import QUEUE, SampleJob, bench, names, sample_jobs

HOLDS, OTHER = (Scope(UUID(int=tenant), UUID(int=tenant)) for tenant in (1, 2))


@pytest.mark.parametrize("error", [asyncpg.LockNotAvailableError, TimeoutError])
async def test_of_a_batch_only_the_jobs_wait_that_a_lock_is_in_the_way_of(
    settings: Settings, error: type[Exception]
) -> None:
    async with bench(settings) as stage:
        locked, tries = True, 0

        async def together(jobs: Sequence[SampleJob]) -> None:
            nonlocal tries
            if locked and any(job.act == "locked" for job in jobs):
                tries += len(jobs) > 1
                raise error
            for job in jobs:
                await stage.do(job)

        worker = stage.batch_worker(together)
        worker.concurrency = 1
        others, later = sample_jobs(60, scope=OTHER), sample_jobs(60, prefix="later", scope=OTHER)
        theirs = sample_jobs(23, act="locked", prefix="theirs", scope=HOLDS)
        async with stage.working(worker):
            await stage.publish(*theirs[:20], *others)
            await stage.until_done(names(others))
            assert tries <= 2, "who holds a lock is found out once"
            await stage.publish(*theirs[20:], *later)
            await stage.until_done(names(later))
            assert tries <= 2, "who holds a lock is handled apart"
            await asyncio.sleep(2.5)  # longer than all steps of the retry schedule
            assert (stage.watch.up, await stage.depth(QUEUE.dead_letters), set(stage.runs)) == (
                True,
                0,
                names([*others, *later]),
            )
            locked = False
            await stage.until_done(names(theirs), within=60)
        assert set(stage.runs.values()) == {1}


async def test_jobs_that_a_batch_leaves_are_handled_alone_after_the_others(settings: Settings) -> None:
    async with bench(settings) as stage:
        batches: list[list[str]] = []

        async def together(jobs: Sequence[SampleJob]) -> Sequence[SampleJob]:
            batches.append([job.name for job in jobs])
            left = [job for job in jobs if job.act == "locked"] if len(jobs) > 1 else []
            for job in jobs:
                if job not in left:
                    await stage.do(job)
            return left

        worker = stage.batch_worker(together)
        worker.concurrency = 1
        others, left = sample_jobs(3, scope=OTHER), sample_jobs(2, act="locked", prefix="left", scope=HOLDS)
        async with stage.working(worker):
            await stage.put_envelope(*left, *others)
            await stage.until_done(names([*left, *others]))
            await stage.until_depth(QUEUE.name, 0)
        assert batches[-2:] == [["left-0"], ["left-1"]]
        assert sum(map(len, batches)) == 7
        assert set(stage.runs.values()) == {1}


async def test_what_takes_too_long_again_and_again_fails_in_the_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "OVERTIME_LIMIT", 2)
    async with bench(settings) as stage:

        async def too_long(_: SampleJob) -> None:
            raise TimeoutError

        worker = stage.worker(too_long)
        async with stage.working(worker):
            await stage.publish(SampleJob(name="slow"))
            await stage.until_depth(QUEUE.dead_letters, 1)
