"""A 2xx is durable whatever the broker does: what it does not confirm in time waits on disk, and arrives later."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest

from ops.local.stack import Stack
from shared.settings import Settings
from tests.support.ingress import (
    ROOT,
    FlakyBroker,
    Hook,
    add_endpoint,
    health,
    ingress,
    ingress_process,
    metric,
    post,
    until,
    webhooks,
)

BUDGET = 1.0  # seconds; an answer that does not wait for the broker takes a hundredth, on a busy machine a tenth


@asynccontextmanager
async def behind(broker: FlakyBroker, settings: Settings, **more: object) -> AsyncIterator[aiohttp.ClientSession]:
    """Ingress that reaches the broker through a path which the test can disturb."""
    url = type(settings.amqp_url)(broker.url)
    varied = settings.model_copy(update={"amqp_url": url, "ingress_publish_budget": BUDGET, **more})
    async with ingress(varied) as client:
        yield client


async def taken(client: aiohttp.ClientSession, hook: Hook, *bodies: str) -> float:
    """Post one after the other; all must be answered 200. Returns the seconds the slowest took."""
    slowest = 0.0
    for body in bodies:
        started = time.monotonic()
        assert await post(client, hook, {"Body": body}) == 200
        slowest = max(slowest, time.monotonic() - started)
    return slowest


async def spooled(client: aiohttp.ClientSession) -> float:
    return await metric(client, "palomar_spool_webhooks")


async def until_drained(client: aiohttp.ClientSession) -> None:
    async def drained() -> bool:
        return await spooled(client) == 0

    await until(drained)


def files(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.state_dir / "spool").iterdir())


def names(*numbers: int) -> list[str]:
    return [str(number) for number in numbers]


async def test_a_broker_that_is_away_is_not_waited_for_and_gets_everything_later(
    settings: Settings, amqp_url: str
) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker, behind(broker, settings) as client:
        await taken(client, hook, "0")
        await broker.cut()
        async with asyncio.timeout(20):  # until it is noticed
            while await spooled(client) < 1:
                await taken(client, hook, "0")
        before = datetime.now(UTC)
        assert await taken(client, hook, *names(*range(1, 31))) < BUDGET
        after = datetime.now(UTC)
        assert await spooled(client) >= 30
        assert await metric(client, "palomar_spool_bytes") > 0
        assert await metric(client, "palomar_spool_oldest_age_seconds") > 0
        async with client.get(health(client, "/readyz")) as answer:
            assert answer.status == 200
        await asyncio.sleep(0.5)
        await broker.mend()
        await until_drained(client)
        items = [item for item in await webhooks(amqp_url, 31) if item["body"] != "Body=0"]
    assert [item["body"] for item in items] == [f"Body={number}" for number in range(1, 31)]  # oldest first
    for item in items:  # when it came in, not when the broker came back
        assert before <= datetime.fromisoformat(str(item["received_at"])) <= after


@pytest.mark.alone
async def test_a_broker_that_does_not_confirm_costs_the_budget_three_times_only(
    settings: Settings, amqp_url: str
) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker, behind(broker, settings) as client:
        await taken(client, hook, "before")
        broker.stall()
        for number in range(3):
            assert BUDGET * 0.9 <= await taken(client, hook, str(number)) < BUDGET + 1
        assert await taken(client, hook, *names(*range(3, 43))) < BUDGET / 2
        assert await spooled(client) == 43
        broker.flow()
        await until_drained(client)
        await taken(client, hook, "after")
        assert await spooled(client) == 0  # the broker is trusted again
        items = await webhooks(amqp_url, 45)
    # What timed out may be in the queue twice; persist keeps it once.
    assert {item["body"] for item in items} == {f"Body={name}" for name in ("before", *names(*range(43)), "after")}


@pytest.mark.alone
async def test_fresh_webhooks_do_not_wait_behind_a_long_spool(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker, behind(broker, settings) as client:
        await broker.cut()
        await asyncio.gather(*(taken(client, hook, f"old {number}") for number in range(3000)))
        assert await spooled(client) == 3000
        await broker.mend()

        async def draining() -> bool:
            return await spooled(client) < 3000

        await until(draining)
        waited = sorted([await taken(client, hook, f"new {number}") for number in range(20)])
        assert waited[10] < BUDGET / 2
        await until_drained(client)
        items = await webhooks(amqp_url, 3020)
    assert len({item["body"] for item in items}) == 3020


async def test_when_neither_takes_it_the_answer_is_503(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker, behind(broker, settings, spool_limit=100_000) as client:
        await broker.cut()
        statuses = [await post(client, hook, {"Body": f"{number}" + "x" * 10_000}) for number in range(20)]
        assert set(statuses) == {200, 503}
        async with client.post(
            hook.path(), data=b"Body=" + b"x" * 50_000, headers=hook.signed({"Body": "x" * 50_000})
        ) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert "broker" in await answer.text()
        assert await metric(client, 'palomar_webhooks_refused_total{reason="not_kept"}') >= 1
        await broker.mend()
        await until_drained(client)
        assert await post(client, hook, {"Body": "x" * 50_000}) == 200
        items = await webhooks(amqp_url, statuses.count(200) + 1)
    assert len(items) == statuses.count(200) + 1


async def test_readyz_is_503_when_no_webhook_could_be_kept_and_recovers(settings: Settings, amqp_url: str) -> None:
    (settings.state_dir / "spool").write_text("a file where the folder should be")
    async with FlakyBroker(amqp_url) as broker, behind(broker, settings) as client:

        async def ready() -> bool:
            async with client.get(health(client, "/readyz")) as answer:
                return answer.status == 200

        async def not_ready() -> bool:
            return not await ready()

        await until(ready)  # the broker is enough
        await broker.cut()
        await until(not_ready)
        await broker.mend()
        await until(ready)


async def test_killed_with_a_full_spool_the_next_process_delivers_it(
    settings: Settings, amqp_url: str, environment: dict[str, str]
) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker:
        await broker.cut()
        async with ingress_process({**environment, "AMQP_URL": broker.url}) as running:
            await taken(running.client, hook, *names(*range(50)))
            running.process.kill()
            await running.process.wait()
        assert any(name.endswith(".db") for name in files(settings))
        await broker.mend()
        async with ingress_process({**environment, "AMQP_URL": broker.url}) as running:
            items = await webhooks(amqp_url, 50)
            await until_drained(running.client)
    assert {item["body"] for item in items} == {f"Body={number}" for number in range(50)}
    assert files(settings) == []


async def test_killed_in_full_traffic_every_acknowledged_webhook_arrives(
    settings: Settings, amqp_url: str, environment: dict[str, str]
) -> None:
    hook = await add_endpoint(settings)
    acknowledged: set[str] = set()

    async def customer(client: aiohttp.ClientSession, name: int) -> None:
        for number in range(10_000):
            try:
                if await post(client, hook, {"Body": f"{name}-{number}"}) == 200:
                    acknowledged.add(f"Body={name}-{number}")
            except aiohttp.ClientError:
                return

    async with FlakyBroker(amqp_url) as broker:
        variables = {**environment, "AMQP_URL": broker.url, "PALOMAR_INGRESS_PUBLISH_BUDGET": str(BUDGET)}
        async with ingress_process(variables) as running:
            customers = asyncio.gather(*(customer(running.client, name) for name in range(16)))
            await asyncio.sleep(0.3)
            await broker.cut()
            await asyncio.sleep(0.5)
            await broker.mend()
            await asyncio.sleep(0.7)
            running.process.kill()
            await customers
        async with ingress_process(variables) as running:
            await until_drained(running.client)
            items = await webhooks(amqp_url, len(acknowledged))
    assert len(acknowledged) > 100
    assert acknowledged <= {str(item["body"]) for item in items}


async def test_sigterm_finishes_what_is_in_hand(settings: Settings, amqp_url: str, environment: dict[str, str]) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker:
        variables = {**environment, "AMQP_URL": broker.url, "PALOMAR_INGRESS_PUBLISH_BUDGET": "1"}
        async with ingress_process(variables) as running:
            assert await post(running.client, hook, {"Body": "before"}) == 200
            broker.stall()
            in_hand = [asyncio.create_task(post(running.client, hook, {"Body": str(number)})) for number in range(10)]
            await asyncio.sleep(0.3)
            running.process.send_signal(signal.SIGTERM)
            assert await asyncio.gather(*in_hand) == [200] * 10
            broker.flow()
            assert await asyncio.wait_for(running.process.wait(), 20) == 0
        async with ingress_process({**environment, "AMQP_URL": broker.url}) as running:
            await until_drained(running.client)
            items = await webhooks(amqp_url, 11)
    assert {item["body"] for item in items} == {"Body=before", *(f"Body={number}" for number in range(10))}


async def test_a_real_broker_killed_and_started_again(
    stack: Stack, settings: Settings, amqp_url: str, environment: dict[str, str]
) -> None:
    hook = await add_endpoint(settings)
    async with ingress_process(environment) as running:
        await taken(running.client, hook, *names(*range(20)))
        stack.rabbitmq.kill()
        try:
            await taken(running.client, hook, *names(*range(20, 60)))
        finally:
            stack.rabbitmq.start()
        await taken(running.client, hook, *names(*range(60, 80)))
        await until_drained(running.client)
        items = await webhooks(amqp_url, 80)
    assert {item["body"] for item in items} == {f"Body={number}" for number in range(80)}


async def test_several_processes_share_a_port_and_a_spool_folder(
    settings: Settings, amqp_url: str, environment: dict[str, str]
) -> None:
    hook = await add_endpoint(settings)
    async with FlakyBroker(amqp_url) as broker:
        await broker.cut()
        variables = {**environment, "AMQP_URL": broker.url}
        async with ingress_process(variables, "--share-port") as first:
            port = first.client._build_url("/").port
            async with ingress_process({**variables, "PORT": str(port)}, "--share-port"):
                for number in range(40):  # a connection each, so that the kernel spreads them
                    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                        await taken(client, hook, str(number))
                await broker.mend()
                items = await webhooks(amqp_url, 40)
    assert {item["body"] for item in items} == {f"Body={number}" for number in range(40)}


async def test_a_port_in_use_is_reported_with_the_remedy(environment: dict[str, str]) -> None:
    async with ingress_process(environment) as running:
        port = running.client._build_url("/").port
        output = await _fails({**environment, "PORT": str(port)}, "receive")
    assert "PORT" in output
    assert "--share-port" in output


async def test_a_start_without_keys_or_with_a_wrong_name_says_what_to_do(environment: dict[str, str]) -> None:
    assert "PALOMAR_SECRET_KEYS" in await _fails({**environment, "PALOMAR_SECRET_KEYS": ""}, "receive")
    assert "receive" in await _fails(environment, "recieve")


async def _fails(environment: dict[str, str], name: str) -> str:
    """Start a process that ends by itself with an error; returns what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingress", name,
        env={**os.environ, **environment}, cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode not in (0, None)
    return said.decode()
