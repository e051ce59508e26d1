"""A client sees each event once and in order while what serves it is killed, and many clients see all of them."""

import asyncio
import random
import resource
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest

from shared import database
from shared.actions import api_keys, tenants
from shared.settings import Settings
from tests.support.api import Tenant
from tests.support.live import Client, Item, Process, connected, end_sessions, happen, numbers
from tests.support.ports import free_port
from tests.support.processes import quick

WRITERS = 4
TRANSACTIONS = 150  # of each writer
ROUNDS = 4  # of killing
SOCKETS = 500


async def tenant(pool: database.Pool) -> Tenant:
    async with pool.acquire() as connection, connection.transaction():
        made = await tenants.create(connection, f"Tienda {database.new_id()}")
        key = await api_keys.create(connection, made.id, "test", ["events:read"])
    return Tenant(made.id, key.key, key.stored.id)


def with_ports(settings: Settings, **others: object) -> Settings:
    return quick(settings, api_port=free_port(), port=free_port(), **others)


async def until_served(url: str) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(url):
                    return
            await asyncio.sleep(0.05)


async def follow(url: str, whose: Tenant, seen: list[Item], last: str, until: int) -> None:
    """A client that comes again with its last id whenever its socket ends, until it has so many events."""
    async with aiohttp.ClientSession() as session:
        while len(seen) < until:
            with suppress(aiohttp.ClientError, EOFError, TimeoutError):
                async with connected(session, whose, {"after": last}, url=url) as client:
                    started = await client.next()
                    if started["type"] == "problem":  # the database is not there yet
                        continue
                    assert started["recovered"] is True
                    while len(seen) < until:
                        item = await client.next()
                        last = item["id"]
                        if item["type"] == "event":
                            seen.append(item["event"])
                        if random.random() < 0.01:
                            break  # the client's own network is no better
            await asyncio.sleep(0.05)


async def write(pool: database.Pool, whose: Tenant, writer: int) -> None:
    """Transactions of one to three events that overlap with those of other writers, and commit in any order."""
    for number in range(TRANSACTIONS):
        async with pool.acquire() as connection, connection.transaction():
            for part in range(random.randint(1, 3)):
                await connection.execute(
                    "INSERT INTO events (name, tenant_id, detail) VALUES ('message.sent', $1, $2)",
                    whose.id,
                    {"number": writer * 10_000 + number * 10 + part},
                )
                await asyncio.sleep(random.uniform(0, 0.03))


async def test_each_event_is_seen_once_while_all_is_killed(settings: Settings) -> None:
    settings = with_ports(settings)
    url = f"http://127.0.0.1:{settings.api_port}/v1/live"
    api, relay = (
        Process(settings, "ingress", "api"),
        Process(settings.model_copy(update={"port": 0}), "workers", "relay"),
    )
    async with database.make_pool(settings, process="test", size=WRITERS + 2) as pool:
        ana = await tenant(pool)
        try:
            api.start()
            relay.start()
            await until_served(url)
            async with aiohttp.ClientSession() as session, connected(session, ana, url=url) as client:
                last = (await client.next("started"))["id"]
            seen: list[Item] = []
            writing = asyncio.gather(*(write(pool, ana, writer) for writer in range(WRITERS)))
            following = asyncio.create_task(follow(url, ana, seen, last, 10**9))
            for _ in range(ROUNDS):
                await asyncio.sleep(random.uniform(0.3, 1.0))
                api.end()
                relay.end()
                await end_sessions(settings)
                api.start()
                relay.start()
                await until_served(url)
            await writing
            stored = await pool.fetch(
                "SELECT e.detail FROM events e WHERE tenant_id = $1 AND name = 'message.sent' ORDER BY e.xid, e.seq",
                ana.id,
            )
            async with asyncio.timeout(60):
                while len(seen) < len(stored):
                    assert not following.done(), following
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            following.cancel()
            assert numbers(seen) == [row["detail"]["number"] for row in stored]
        finally:
            api.end()
            relay.end()


@pytest.mark.alone
async def test_five_hundred_sockets_all_see_everything(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    settings = with_ports(settings, api_rate_limit=10_000, api_live_streams=2 * SOCKETS)
    url = f"http://127.0.0.1:{settings.api_port}/v1/live"
    api = Process(settings, "ingress", "api")
    async with database.make_pool(settings, process="test", size=4) as pool:
        ana = await tenant(pool)
        api.start()
        try:
            await until_served(url)
            async with AsyncExitStack() as stack:
                session = await stack.enter_async_context(
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
                )
                before = resident(api.pid)
                clients: list[Client] = await asyncio.gather(
                    *(stack.enter_async_context(connected(session, ana, url=url)) for _ in range(SOCKETS))
                )
                await asyncio.gather(*(client.next("started", within=60) for client in clients))
                each = (resident(api.pid) - before) / SOCKETS
                for number in range(50):
                    await happen(pool, ana, "message.sent", number=number)
                for events in await asyncio.gather(*(client.events(50) for client in clients)):
                    assert numbers(events) == list(range(50))
                sessions = await pool.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'palomar api live%' "
                    "AND datname = current_database()"
                )
                assert sessions == 1, "one reader, whichever number of sockets"
                assert each < 100 * 1024, f"{each:.0f} bytes for each socket"
        finally:
            api.end()


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
