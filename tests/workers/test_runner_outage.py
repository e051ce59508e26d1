"""PostgreSQL or the broker away: nothing fails, nothing is counted, and all of it is done when they are back."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import aio_pika
import pytest
import time_machine

from ops.local.stack import Stack
from shared.queue import gate
from shared.queue.connection import BrokerAway, PublishFailed
from shared.resilience.backoff import Backoff
from shared.settings import Settings
from tests.support.broker_faults import paused
from tests.support.runner_stage import QUEUE, Bench, SampleJob, bench, names, sample_jobs, until


@contextmanager
def no_database(stack: Stack) -> Iterator[None]:
    stack.postgres.stop("immediate")
    try:
        yield
    finally:
        stack.postgres.start()


@contextmanager
def no_broker(stack: Stack) -> Iterator[None]:
    stack.rabbitmq.kill()
    try:
        yield
    finally:
        stack.rabbitmq.start()


def _let_pass(time: timedelta) -> None:
    """Move the clock of the event loop, to which all waits belong."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + time.total_seconds()  # type: ignore[method-assign]


async def _nothing_failed(stage: Bench) -> None:
    assert await stage.depth(QUEUE.dead_letters) == 0
    for step in stage.settings.retry_delays:
        assert await stage.depth(f"retry.{step:g}s") == 0


async def test_twenty_minutes_without_database_cost_no_job_anything(stack: Stack, settings: Settings) -> None:
    async with bench(settings) as stage:
        waits = asyncio.Event()

        async def once_let(job: SampleJob) -> None:
            await waits.wait()
            await stage.do(job)

        async with stage.working(stage.worker(once_let, concurrency=5)) as running:
            await stage.until_done(set())  # the pool has connections
            await stage.publish(*sample_jobs(5))
            await stage.until_depth(QUEUE.name, 0)
            with no_database(stack), time_machine.travel(0, tick=True) as clock:
                waits.set()
                await stage.publish(*sample_jobs(100, prefix="later"))
                for _ in range(8):
                    await asyncio.sleep(0.2)
                    _let_pass(timedelta(minutes=2.5))
                    clock.shift(timedelta(minutes=2.5))
                await asyncio.sleep(0.5)
                assert not running.breakers.worker.open
                assert not stage.watch.up
                tried = sum(stage.runs.values())
            await stage.until_done(names(sample_jobs(5)) | names(sample_jobs(100, prefix="later")))
        await _nothing_failed(stage)
    assert tried <= 20  # a waiting worker does not retry at once


async def test_batches_wait_for_the_database_too(stack: Stack, settings: Settings) -> None:
    async with bench(settings) as stage:

        async def together(jobs: Sequence[SampleJob]) -> None:
            async with stage.context.transaction() as tx:
                await tx.executemany(
                    "INSERT INTO effects AS e (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET count = e.count + 1",
                    [(job.name,) for job in jobs],
                )

        async with stage.working(stage.batch_worker(together)):
            with no_database(stack):
                await stage.publish(*sample_jobs(100))
                await asyncio.sleep(0.5)
            await stage.until_done(names(sample_jobs(100)))
        await _nothing_failed(stage)
        assert await stage.pool.fetchval("SELECT max(count) FROM effects") == 1


async def test_a_worker_started_without_database_takes_nothing_until_it_is_there(
    stack: Stack, settings: Settings
) -> None:
    async with bench(settings) as stage:
        await stage.publish(*sample_jobs(20))
        await stage.until_depth(QUEUE.name, 1)
        with no_database(stack):
            async with stage.process() as process:
                await asyncio.sleep(3)
                assert process.returncode is None
                assert await stage.depth(QUEUE.name) == 1
                stack.postgres.start()
                await stage.until_done(names(sample_jobs(20)))


async def test_a_stop_does_not_wait_for_the_database(stack: Stack, settings: Settings) -> None:
    async with bench(settings, stop_grace=30.0) as stage:
        waits = asyncio.Event()

        async def once_let(job: SampleJob) -> None:
            await waits.wait()
            await stage.do(job)

        await stage.publish(*sample_jobs(50))
        with ExitStack() as outage:
            async with asyncio.timeout(10), stage.working(stage.worker(once_let)):
                await stage.until_depth(QUEUE.name, 0)
                outage.enter_context(no_database(stack))
                waits.set()

                async def noticed() -> bool:
                    return not stage.watch.up

                await until(noticed, "the outage noticed")
        async with stage.working():
            await stage.until_done(names(sample_jobs(50)))


async def test_a_full_disk_is_waited_for_and_then_the_job_has_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "OUTAGE_PAUSE", Backoff(first=0.001, longest=0.01))
    async with bench(settings) as stage:

        async def full(job: SampleJob) -> None:
            stage.runs[job.name] += 1
            await stage.pool.execute("DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$")

        async with stage.working(stage.worker(full)):
            await stage.publish(SampleJob(name="x"))
            await stage.until_depth(QUEUE.dead_letters, 1)
    assert stage.runs["x"] == (gate.OUTAGES_LIMIT + 1) * 4


async def test_a_broker_that_does_not_take_what_a_handler_publishes_is_waited_for(settings: Settings) -> None:
    async with bench(settings) as stage:

        async def publishes(job: SampleJob) -> None:
            stage.runs[job.name] += 1
            if stage.runs[job.name] < 3:
                raise BrokerAway("for now")

        async with stage.working(stage.worker(publishes)):
            await stage.publish(SampleJob(name="x"))

            async def thrice() -> bool:
                return stage.runs["x"] == 3

            await until(thrice, "three tries")
        assert await stage.depth(QUEUE.name) == 0
        await _nothing_failed(stage)


async def _publish_until_confirmed(stage: Bench, jobs: Sequence[SampleJob]) -> None:
    """As one does who may not lose them."""
    for job in jobs:
        while True:
            try:
                await stage.publisher.publish(job, timeout=5)
                break
            except PublishFailed:
                await asyncio.sleep(0.1)


async def test_a_broker_killed_under_load_loses_nothing_and_the_processes_recover(
    stack: Stack, settings: Settings
) -> None:
    async with bench(settings) as stage, stage.process() as process, stage.working():
        jobs = sample_jobs(3000)
        load = [asyncio.create_task(_publish_until_confirmed(stage, jobs[n::50])) for n in range(50)]
        await stage.until_done({jobs[0].name})
        with no_broker(stack):
            await asyncio.sleep(0.5)
        await asyncio.gather(*load)
        await stage.until_done(names(jobs), within=60)
        await stage.publish(SampleJob(name="after"))
        await stage.until_done({"after"})
        assert process.returncode is None
        await _nothing_failed(stage)


async def test_a_broker_that_stands_still_under_load_loses_nothing(stack: Stack, settings: Settings) -> None:
    async with bench(settings, publish_timeout=0.5) as stage, stage.working():
        jobs = sample_jobs(500)
        load = [asyncio.create_task(_publish_until_confirmed(stage, jobs[n::50])) for n in range(50)]
        await asyncio.sleep(0.05)
        with paused(stack):
            await asyncio.sleep(2)
        await asyncio.gather(*load)
        await stage.until_done(names(jobs))
        await _nothing_failed(stage)


async def test_a_queue_that_was_deleted_is_made_and_consumed_again(settings: Settings) -> None:
    async with bench(settings) as stage, stage.working() as running:
        await stage.publish(SampleJob(name="before"))
        await stage.until_done({"before"})
        async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
            await (await connection.channel()).queue_delete(QUEUE.name)
        await _publish_until_confirmed(stage, [SampleJob(name="after")])
        await stage.until_done({"after"})
        assert running.consuming


async def test_what_is_in_hand_when_the_connection_goes_is_left_to_whoever_gets_it(
    stack: Stack, settings: Settings
) -> None:
    """Nothing is begun on a connection that is gone: the broker has given the job to another consumer."""
    async with bench(settings) as stage:
        first = asyncio.Event()

        async def slow(job: SampleJob) -> None:
            if job.name == "job-0":
                stage.runs[job.name] += 1
                await first.wait()
            else:
                await stage.do(job)

        async with stage.working(stage.worker(slow, concurrency=1)) as running:
            await stage.put_envelope(*sample_jobs(3))
            await stage.until_depth(QUEUE.name, 0)
            with no_broker(stack):

                async def noticed() -> bool:
                    return not running.consuming

                await until(noticed, "the lost connection noticed")
                first.set()
                await asyncio.sleep(0.3)
                assert stage.runs == {"job-0": 1}
            await stage.until_done({"job-1", "job-2"})
        assert stage.runs == {"job-0": 2, "job-1": 1, "job-2": 1}
