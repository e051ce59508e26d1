"""When most items die, the worker stops burying, says so, and tries one now and then."""

import asyncio
from collections.abc import Sequence

import aiohttp

from shared.outcomes import Dead
from shared.settings import Settings
from tests.ports import free_port
from tests.workers.runner_stage import QUEUE, Job, bench, jobs, names, until

QUICK = {"brake_window": 5, "brake_trial": 1.0}


async def test_a_worker_whose_items_die_stops_and_says_so_until_one_succeeds(settings: Settings) -> None:
    port = free_port()
    async with bench(settings, **QUICK) as stage, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        items = jobs(40, act="die mended")
        for item in items:
            await stage.publish(item)
        async with stage.process(concurrency=1, port=port):

            async def ready() -> int:
                async with http.get("/readyz") as response:
                    told = (await response.json()).get("missing", {})
                    assert response.status == (503 if told else 200)
                    assert not told or "brake" in told["reply"]
                    return response.status

            await stage.until_depth(QUEUE.dead, 5)
            assert await ready() == 503
            async with http.get("/metrics") as response:
                assert 'palomar_brake_on{queue="reply"} 1.0' in await response.text()
            await asyncio.sleep(2.5)
            assert 6 <= await stage.depth(QUEUE.dead) <= 8

            await stage.publish(Job(name="after"))
            await stage.pool.execute("INSERT INTO effects (name) VALUES ('mended')")
            await stage.until_done({"after"})
            assert await ready() == 200
        dead = await stage.depth(QUEUE.dead)
        assert dead <= 9
        assert len(await stage.done()) == len(items) - dead + len({"mended", "after"})


async def test_a_batch_worker_tries_one_item_at_a_time_while_the_brake_is_on(settings: Settings) -> None:
    async with bench(settings, **QUICK) as stage:
        broken = True
        trials: list[int] = []

        async def together(items: Sequence[Job]) -> None:
            if broken:
                if running.brake.on:
                    trials.append(len(items))
                raise Dead("nothing works")
            for item in items:
                await stage.do(item)

        worker = stage.batch_worker(together)
        worker.concurrency = 1
        async with stage.working(worker) as running:
            await stage.publish(*jobs(100))
            await stage.until_depth(QUEUE.dead, 5)
            await asyncio.sleep(2.5)
            assert await stage.depth(QUEUE.dead) <= 8
            broken = False
            await stage.until_done(list(names(jobs(100)))[:0])

            async def all_finished() -> bool:
                return len(await stage.done()) + await stage.depth(QUEUE.dead) == 100

            await until(all_finished, "all items finished")
            assert not running.brake.on
    assert set(trials) == {1}


async def test_items_that_can_not_be_read_engage_the_brake_too(settings: Settings) -> None:
    async with bench(settings, **QUICK) as stage, stage.working() as running:
        for _ in range(20):
            await stage.put(b'{"type":"job.of.tomorrow","items":[{}]}')
        await stage.until_depth(QUEUE.dead, 5)
        await asyncio.sleep(0.5)
        assert running.brake.on
        assert await stage.depth(QUEUE.dead) <= 6


async def test_some_failures_among_many_engage_no_brake(settings: Settings) -> None:
    async with bench(settings, brake_window=10) as stage:

        async def every_fourth(item: Job) -> None:
            assert not running.brake.on
            if int(item.name.removeprefix("job-")) % 4 == 0:
                raise Dead("just this one")
            await stage.do(item)

        async with stage.working(stage.worker(every_fourth, concurrency=1)) as running:
            await stage.publish(*jobs(100))
            await stage.until_depth(QUEUE.dead, 25)

            async def others_done() -> bool:
                return len(await stage.done()) == 75

            await until(others_done, "the others done")
            assert not running.brake.on
