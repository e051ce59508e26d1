"""python -m workers: which workers a name means, and what a process tells about itself."""

import asyncio
import os
import signal
import subprocess
import sys

import aiohttp
import pytest

from shared.queue import topology
from shared.settings import Settings
from tests.support.ports import free_port
from tests.support.runner_stage import ROOT, Bench, bench, environ, until
from workers.__main__ import chosen, declared


def _chosen(*names: str) -> dict[str, list[str]]:
    return {worker.name: [queue.name for queue in queues] for worker, queues in chosen(names)}


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["persist"], {"persist": ["persist", "persist.receipts", "persist.large"]}),
        (["persist.receipts"], {"persist": ["persist.receipts"]}),
        (["persist.receipts", "persist"], {"persist": ["persist", "persist.receipts", "persist.large"]}),
        (["reply", "window"], {"reply": ["reply", "reply.llm"], "window": ["window"]}),
        (["window", "window"], {"window": ["window"]}),
        (["clock", "relay"], {"clock": [], "relay": []}),
        (["send.twilio.bulk"], {"send": ["send.twilio.bulk"]}),
    ],
)
def test_a_name_means_a_worker_or_one_lane_of_it(names: list[str], meant: dict[str, list[str]]) -> None:
    assert _chosen(*names) == meant


@pytest.mark.parametrize("names", [["all"], ["all", "persist"]])
def test_all_means_every_worker_with_every_queue(names: list[str]) -> None:
    meant = _chosen(*names)
    assert set(meant) == set(declared())
    assert sorted(queue for queues in meant.values() for queue in queues) == sorted(q.name for q in topology.QUEUES)


def test_a_worker_alone_imports_no_other() -> None:
    found = "import sys; from workers.__main__ import chosen; chosen(sys.argv[1:]); print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", found, "persist.receipts", "window"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = done.stdout.split()
    imported = {name for name in declared() if f"workers.{name}" in modules}
    assert imported == {"persist", "window"}
    assert not {"ingress", "openai", "twilio.rest", "obstore"}.intersection(modules)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nobody"], "no worker 'nobody'"),
        (["persist.no"], "no worker 'persist.no'"),
        ([], "name at least one worker"),
    ],
)
def test_a_name_nobody_has_is_answered_with_those_there_are(names: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers", *names], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    for name in ("all", "persist", "persist.receipts", "reply", "window", "send", "relay", "clock"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


async def _until_consumed(stage: Bench, queues: set[str]) -> None:
    async def consumed() -> bool:
        return {queue.name for queue in topology.QUEUES if await stage.consumers(queue.name)} == queues

    await until(consumed, f"consumers of {', '.join(sorted(queues))}")


async def test_a_lane_alone_consumes_its_queue_alone_and_tells_that_it_is_ready(settings: Settings) -> None:
    port = free_port()
    async with (
        bench(settings) as stage,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        stage.process(module="workers", names=["persist.receipts"], port=port) as process,
    ):
        await _until_consumed(stage, {"persist.receipts"})

        async def ready() -> bool:
            async with http.get("/readyz") as response:
                return response.status == 200

        await until(ready, "ready")
        async with http.get("/healthz") as response:
            assert response.status == 200
        async with http.get("/metrics") as response:
            text = await response.text()
        for metric in ("palomar_items_total", "palomar_handler_seconds", "palomar_database_up 1.0"):
            assert metric in text
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0
        await _until_consumed(stage, set())


async def test_a_process_without_broker_and_database_lives_and_says_what_is_missing(
    settings: Settings,
) -> None:
    port = free_port()
    async with bench(settings) as stage, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        nowhere = stage.settings.model_copy(
            update={
                "amqp_url": type(settings.amqp_url)("amqp://guest:guest@127.0.0.1:1/"),
                "database_url": type(settings.database_url)("postgresql://palomar@127.0.0.1:1/palomar"),
            }
        )
        stage.settings = nowhere
        async with stage.process(module="workers", names=["persist"], port=port) as process:

            async def alive() -> bool:
                try:
                    async with http.get("/healthz") as response:
                        return response.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await until(alive, "alive")
            async with http.get("/readyz") as response:
                answer = await response.json()
            assert response.status == 503
            assert set(answer["missing"]) == {"broker", "database"}
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers", "persist"),
            cwd=settings.state_dir,
            env={**os.environ, **environ(settings), "PYTHONPATH": str(ROOT), "PORT": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert f"port {port} is taken" in said.decode()
    assert "Traceback" not in said.decode()
