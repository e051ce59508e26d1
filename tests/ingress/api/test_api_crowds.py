"""Strangers and a hostile tenant at the API's port: what they do there keeps no other tenant's client waiting."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median

import aiohttp
import pytest

from shared import database
from shared.actions import api_keys, tenants
from shared.settings import Settings
from tests.support.api import Tenant
from tests.support.crowd import crowd
from tests.support.live import Process
from tests.support.ports import free_port

CONNECTIONS = 10_000
WAITING = 2_000  # of these, that the process lets wait at once
SAMPLES = 40
NOISE = 0.03  # seconds: what a machine that does much else adds to a median
PEAK = 200 * 2**20  # bytes


@asynccontextmanager
async def api_process(settings: Settings) -> AsyncIterator[tuple[Process, Settings, Tenant, Tenant]]:
    """The API in a process of its own that trusts no proxy, and the keys of two tenants."""
    settings = settings.model_copy(
        update={
            "api_port": free_port(), "port": free_port(), "waiting_connections": WAITING, "trusted_proxies": (),
            "api_rate_limit": 100_000,
        }
    )  # fmt: skip
    process = Process(settings, "ingress", "api")
    async with database.make_pool(settings, process="test", size=2) as pool:
        ana, eva = [await tenant(pool) for _ in range(2)]
    process.start()
    try:
        await until_ready(settings)
        yield process, settings, ana, eva
    finally:
        process.end()


async def tenant(pool: database.Pool) -> Tenant:
    async with pool.acquire() as connection, connection.transaction():
        made = await tenants.create(connection, f"Tienda {database.new_id()}")
        key = await api_keys.create(connection, made.id, "test", ["*"])
    return Tenant(made.id, key.key, key.stored.id)


async def until_ready(settings: Settings) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{settings.port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


async def waits(settings: Settings, whose: Tenant) -> tuple[float, float]:
    """Seconds until half of a client's calls were answered: on a connection in use, and on new ones. All must be."""
    url, headers = f"http://127.0.0.1:{settings.api_port}/v1/contacts", {"Authorization": f"Bearer {whose.key}"}
    kept: list[float] = []
    new: list[float] = []
    async with (
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as once,
    ):
        for _ in range(SAMPLES):
            for client, took in ((session, kept), (once, new)):
                began = time.monotonic()
                async with client.get(url, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()
                took.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
    return median(kept), median(new)


async def metric(settings: Settings, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{settings.port}/metrics") as answer:
        text = await answer.text()
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def peak(process: Process) -> int:
    """The most memory it ever had, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.alone
async def test_a_crowd_keeps_no_others_client_waiting_and_fills_no_memory(settings: Settings) -> None:
    async with api_process(settings) as (process, settings, ana, eva):
        url = f"http://127.0.0.1:{settings.api_port}"
        quiet = await waits(settings, ana)
        for how, key in (
            (("silent", str(CONNECTIONS), "40"), ""),  # half of them with the beginning of a head
            (("stalled", "200", "70000"), eva.key),
            (("stalled", "20", str(settings.api_body_limit * 2)), eva.key),  # refused at once, and sent again
        ):
            before = await metric(settings, "palomar_connections_closed_total")
            async with crowd(url, "/v1/contacts", "application/json", *how, "", key):
                crowded = await waits(settings, ana)
                print(how, "quiet", quiet, "crowded", crowded, "peak", peak(process) / 2**20)
                for was, now in zip(quiet, crowded, strict=True):
                    assert now <= 3 * was + NOISE, how
                if how[0] == "silent":
                    closed = await metric(settings, "palomar_connections_closed_total") - before
                    assert closed >= (CONNECTIONS - WAITING) / 2, "the crowd was as large as it should be"
                    assert await metric(settings, "palomar_connections") <= WAITING + SAMPLES
        assert peak(process) <= PEAK
