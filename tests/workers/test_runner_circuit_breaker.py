"""Most jobs of a channel fail: its circuit breaker opens. Most of all fail: the worker stops and tries some."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import aiohttp

from shared.queue.outcomes import DeadLetter
from shared.queue.worker import Context
from shared.resilience.circuit_breaker import Scope
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.runner_stage import QUEUE, SampleJob, bench, header, names, sample_jobs, until

HOSTILE, HEALTHY = (Scope(UUID(int=tenant), UUID(int=tenant)) for tenant in (1, 2))
QUICK = {"circuit_breaker_window": 5, "circuit_breaker_trial": 1.0}


async def test_a_worker_whose_jobs_fail_stops_and_says_so_until_one_succeeds(settings: Settings) -> None:
    port = free_port()
    async with bench(settings, **QUICK) as stage, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        jobs = sample_jobs(40, act="die mended")
        for job in jobs:
            await stage.publish(job)
        async with stage.process(concurrency=1, port=port):

            async def ready() -> int:
                async with http.get("/readyz") as response:
                    missing = (await response.json()).get("missing", {})
                    assert response.status == (503 if missing else 200)
                    assert not missing or "circuit breaker" in missing["reply"]
                    return response.status

            await stage.until_depth(QUEUE.dead_letters, 5)
            assert await ready() == 503
            async with http.get("/metrics") as response:
                assert 'palomar_brake_on{queue="reply"} 1.0' in await response.text()
            await asyncio.sleep(2.5)
            assert 6 <= await stage.depth(QUEUE.dead_letters) <= 8

            await stage.publish(SampleJob(name="after"))
            await stage.pool.execute("INSERT INTO effects (name) VALUES ('mended')")
            await stage.until_done({"after"})
            assert await ready() == 200
        dead = await stage.depth(QUEUE.dead_letters)
        assert dead <= 9
        assert len(await stage.done()) == len(jobs) - dead + len({"mended", "after"})


async def test_a_batch_worker_tries_one_job_at_a_time_while_the_breaker_is_open(settings: Settings) -> None:
    async with bench(settings, **QUICK) as stage:
        broken = True
        trials: list[int] = []

        async def together(jobs: Sequence[SampleJob]) -> None:
            if broken:
                if running.breakers.worker.open:
                    trials.append(len(jobs))
                raise DeadLetter("nothing works")
            for job in jobs:
                await stage.do(job)

        worker = stage.batch_worker(together)
        worker.concurrency = 1
        async with stage.working(worker) as running:
            await stage.publish(*sample_jobs(100))
            await stage.until_depth(QUEUE.dead_letters, 5)
            await asyncio.sleep(2.5)
            assert await stage.depth(QUEUE.dead_letters) <= 8
            broken = False
            await stage.until_done(list(names(sample_jobs(100)))[:0])

            async def all_finished() -> bool:
                return len(await stage.done()) + await stage.depth(QUEUE.dead_letters) == 100

            await until(all_finished, "all jobs finished")
            assert not running.breakers.worker.open
    assert set(trials) == {1}


async def test_jobs_that_can_not_be_read_open_the_breaker_too(settings: Settings) -> None:
    async with bench(settings, **QUICK) as stage, stage.working() as running:
        for _ in range(20):
            await stage.put(b'{"type":"job.of.tomorrow","items":[{}]}')
        await stage.until_depth(QUEUE.dead_letters, 5)
        await asyncio.sleep(0.5)
        assert running.breakers.worker.open
        assert await stage.depth(QUEUE.dead_letters) <= 6


async def test_some_failures_among_many_open_no_breaker(settings: Settings) -> None:
    async with bench(settings, circuit_breaker_window=10) as stage:

        async def every_fourth(job: SampleJob) -> None:
            assert not running.breakers.worker.open
            if int(job.name.removeprefix("job-")) % 4 == 0:
                raise DeadLetter("just this one")
            await stage.do(job)

        async with stage.working(stage.worker(every_fourth, concurrency=1)) as running:
            await stage.publish(*sample_jobs(100))
            await stage.until_depth(QUEUE.dead_letters, 25)

            async def others_done() -> bool:
                return len(await stage.done()) == 75

            await until(others_done, "the others done")
            assert not running.breakers.worker.open


async def test_one_tenants_failing_jobs_wait_and_the_others_go_on(settings: Settings) -> None:
    async with bench(settings, circuit_breaker_window=10, circuit_breaker_trial=1.0) as stage:
        broken = True
        tries: Counter[str] = Counter()

        async def act(job: SampleJob) -> None:
            if job.tenant_id == HOSTILE.tenant:
                tries[job.name] += 1
                if broken:
                    raise DeadLetter("its own fault")
            await stage.do(job)

        hostile = sample_jobs(400, prefix="hostile", scope=HOSTILE)
        async with stage.working(stage.worker(act, concurrency=1)) as running:
            for start in range(0, len(hostile), 40):
                await stage.publish(*hostile[start : start + 40], *sample_jobs(20, prefix=f"in-{start}", scope=HEALTHY))
            await stage.until_done(f"in-{start}-{n}" for start in range(0, len(hostile), 40) for n in range(20))
            assert set(running.breakers.open_scopes) == {HOSTILE}
            assert not running.breakers.worker.open
            await asyncio.sleep(2.5)
            assert tries.total() <= 10 + 1 + 6, "one a second is tried"
            broken = False

            async def all_finished() -> bool:
                return len(await stage.done()) + await stage.depth(QUEUE.dead_letters) == 600

            await until(all_finished, "nothing is lost, and what waited is done")
            assert not running.breakers.open_scopes
        for message in await stage.dead_letters():
            assert header(message, "palomar-attempt") == 1


async def test_in_a_batch_only_the_failing_tenants_jobs_wait(settings: Settings) -> None:
    async with bench(settings, circuit_breaker_window=10, circuit_breaker_trial=30.0) as stage:
        trials = 0

        async def together(jobs: Sequence[SampleJob]) -> None:
            nonlocal trials
            if any(job.tenant_id == HOSTILE.tenant for job in jobs):
                trials += len(jobs) == 1
                raise DeadLetter("its own fault")
            for job in jobs:
                await stage.do(job)

        worker = stage.batch_worker(together)
        worker.concurrency = 1
        async with stage.working(worker) as running:
            await stage.publish(*sample_jobs(200, prefix="hostile", scope=HOSTILE))
            await stage.publish(*sample_jobs(100, scope=HEALTHY))
            await stage.until_done(names(sample_jobs(100)))
            assert set(running.breakers.open_scopes) == {HOSTILE}
            assert not running.breakers.worker.open
            assert trials == 10


async def test_the_row_of_a_job_whose_breaker_is_open_waits_with_it(settings: Settings) -> None:
    async with bench(settings, circuit_breaker_window=5, circuit_breaker_trial=30.0) as stage:
        waits: list[float | None] = []

        async def die(job: SampleJob) -> None:
            raise DeadLetter("its own fault")

        worker = stage.worker(die, concurrency=1)

        @worker.postpone
        async def postpone(job: SampleJob, ctx: Context[None], wait: timedelta | None) -> None:
            waits.append(None if wait is None else wait.total_seconds())

        async with stage.working(worker):
            await stage.publish(*sample_jobs(6, scope=HOSTILE))
            await stage.until_depth(QUEUE.dead_letters, 5)
            await until(lambda: _more_than(waits, 5), "the sixth waits")
        handoff = stage.settings.handoff_lease
        assert waits[:5] == [None] * 5
        assert waits[5] == max(stage.settings.retry_delays) + handoff


async def _more_than(found: Sequence[object], count: int) -> bool:
    return len(found) > count
