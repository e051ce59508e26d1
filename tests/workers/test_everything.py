"""python -m workers all: all of Palomar in one process."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shared.queue.connection import Link
from shared.queue.worker import Context, Worker
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.runner_stage import QUEUE, Bench, SampleJob, bench, sample_jobs, until
from tests.support.stage import CUSTOMER, Stage, staged
from workers import _unit
from workers._unit import Connections, Unit

GREETING = {"reply": {"greeting": "Hello", "menu": []}}


@asynccontextmanager
async def _everything(stage: Stage) -> AsyncIterator[tuple[asyncio.subprocess.Process, Settings]]:
    """The process on ports of its own, once it says that it is ready."""
    port = free_port()
    ports = {"port": port, "health_port": free_port(), "api_port": free_port()}
    settings = stage.settings.model_copy(update={**ports, "public_url": f"http://127.0.0.1:{port}"})
    async with stage.running("all", settings=settings) as process:

        async def ready() -> bool:
            assert process.returncode is None
            return await _status(settings.health_port, "/readyz") == 200

        await until(ready, "ready")
        yield process, settings


async def _status(port: int | None, path: str) -> int:
    """What is answered there; 0 while nobody listens."""
    try:
        async with aiohttp.request("GET", f"http://127.0.0.1:{port}{path}") as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientConnectionError:
        return 0


async def _write(stage: Stage, settings: Settings) -> None:
    """A customer writes, and the webhook is acknowledged."""
    url = f"{settings.public_url}/webhooks/twilio/{stage.ours.endpoint_id}"
    to = stage.ours.party(stage.ours.address)
    written = await stage.sandbox.customer(sender=stage.ours.party(CUSTOMER), to=to, text="hola", webhook_url=url)
    assert written.status == 200


async def test_a_conversation_passes_through_one_process(settings: Settings) -> None:
    async with staged(settings, GREETING) as stage, _everything(stage) as (process, given):
        await _write(stage, given)
        (answer,) = await stage.sandbox.wait(to=stage.ours.party(CUSTOMER), within=20)
        assert answer.body == "Hello"
        await stage.until(stage.count, "messages WHERE status = 'read'", equals=1)  # three receipts came in, too
        assert await _status(given.api_port, "/v1/contacts") == 401
        for part in ("receive", "api", "workers"):
            assert await _status(given.health_port, f"/readyz/{part}") == 200
        assert await _status(given.health_port, "/metrics") == 200
        assert await _status(given.port, "/metrics") == 404  # that port is the public's
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_it_stops_in_time_and_finishes_the_call_in_hand(settings: Settings) -> None:
    async with staged(settings, GREETING) as stage:
        await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 1500})
        async with _everything(stage) as (process, given):
            await _write(stage, given)
            await stage.until(stage.count, "messages WHERE status = 'sending'", equals=1)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), given.stop_grace + 15) == 0
        assert await stage.count("messages WHERE direction = 'outbound' AND status = 'sent'") == 1


async def test_a_port_that_is_taken_ends_it_with_the_variables_to_change(settings: Settings) -> None:
    async with staged(settings) as stage, await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        taken = stage.settings.model_copy(update={"port": port, "health_port": free_port(), "api_port": free_port()})
        async with stage.running("all", settings=taken) as process:
            assert await asyncio.wait_for(process.wait(), 30) == 1


@asynccontextmanager
async def _connections(stage: Bench) -> AsyncIterator[Connections]:
    link = Link(stage.settings.amqp_url.get_secret_value(), "test consume")
    link.start()
    try:
        yield Connections(stage.settings, stage.pool, stage.watch, stage.publisher, link)
    finally:
        await link.close()


async def test_a_worker_that_crashes_starts_again_and_the_process_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_unit, "FIRST_PAUSE", 0.2)
    async with bench(settings) as stage, _connections(stage) as connections:
        starts = 0

        @asynccontextmanager
        async def opened(_: Settings) -> AsyncIterator[None]:
            nonlocal starts
            starts += 1
            if starts <= 2:
                raise RuntimeError("no disk")
            yield None

        worker: Worker[SampleJob, None] = Worker("test", (QUEUE,), (SampleJob,), open=opened)

        @worker.handle
        async def handle(job: SampleJob, ctx: Context[None]) -> None:
            await stage.do(job)

        unit, stop = Unit(worker, (QUEUE,), connections), asyncio.Event()
        running = asyncio.create_task(unit.keep_running(stop))
        await unit.started.wait()
        assert "RuntimeError" in unit.missing["test"]
        await stage.publish(*sample_jobs(3))
        await stage.until_done({"job-0", "job-1", "job-2"})
        assert starts == 3
        assert unit.missing == {}
        stop.set()
        await asyncio.wait_for(running, 15)


async def test_a_worker_whose_machinery_fails_starts_again_and_gets_its_jobs_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_unit, "FIRST_PAUSE", 0.2)
    async with bench(settings) as stage, _connections(stage) as connections:
        unit, stop = Unit(stage.worker(), (QUEUE,), connections), asyncio.Event()
        running = asyncio.create_task(unit.keep_running(stop))
        await stage.publish(*sample_jobs(1))
        await stage.until_done({"job-0"})
        (runner,) = unit._runners
        feed = next(task for task in runner._tasks if task.get_name().endswith("feed"))
        feed.cancel("as an error in it would end it")

        async def again() -> bool:
            return unit._runners != [runner]

        await until(again, "a new runner")
        await stage.publish(*sample_jobs(1, prefix="later"))
        await stage.until_done({"job-0", "later-0"})
        stop.set()
        await asyncio.wait_for(running, 15)
