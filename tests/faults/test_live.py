"""Clients of /v1/live see each event once, while API, relay, broker and database are killed in turn for two minutes."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from ops.local.stack import Stack
from ops.soak import SEED
from shared import database
from shared.actions import api_keys
from shared.settings import Settings
from tests.faults import faults, verdicts
from tests.faults.customers import channel_settings
from tests.faults.staging import System, playing
from tests.support.api import Tenant
from tests.support.live import connected
from tests.support.ports import free_port

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

SECONDS: Final = 120.0
FAULTS: Final = ("api.1", "relay.1", "broker", "api.2", "relay.2", "database")
WRITERS: Final = 4
CLIENTS: Final = 3
DOWN: Final = (0.0, 2.0)  # seconds that what was killed stays away
QUIET: Final = (0.5, 1.5)  # seconds until the next one is killed
ALL_SEEN_WITHIN: Final = 60.0
_INSERT: Final = "INSERT INTO events (name, tenant_id, detail) VALUES ('message.sent', $1, $2)"
_MADE: Final = """
SELECT e.detail ->> 'number' AS number FROM events e WHERE tenant_id = $1 AND name = 'message.sent'
ORDER BY e.xid, e.seq
"""


@dataclass
class Follower:
    """A client that comes again with the id of its last item whenever its socket ends."""

    url: str
    whose: Tenant
    dice: random.Random
    seen: list[str] = field(default_factory=list)
    last: str = ""
    sockets: int = 0  # that began
    reloads: int = 0  # times that it was not given all that it had missed
    ends: Counter[str] = field(default_factory=Counter)

    async def begin(self) -> None:
        """Get the first cursor."""
        async with aiohttp.ClientSession() as session, connected(session, self.whose, url=self.url) as client:
            self.last = (await client.next("started"))["id"]

    async def follow(self) -> None:
        """Follow until canceled."""
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._once(session)
                except (aiohttp.ClientError, EOFError, TimeoutError) as error:
                    self.ends[str(error) if isinstance(error, EOFError) else type(error).__name__] += 1
                await asyncio.sleep(self.dice.uniform(0.0, 0.2))

    async def _once(self, session: aiohttp.ClientSession) -> None:
        async with connected(session, self.whose, {"after": self.last}, url=self.url) as client:
            started = await client.next()
            if started["type"] == "problem":  # such as that the database is away
                self.ends[started["problem"]["title"]] += 1
                return
            self.sockets += 1
            self.reloads += not started["recovered"]
            while True:
                item = await client.next(within=15.0)
                self.last = item["id"]
                if item["type"] == "event":
                    self.seen.append(item["event"]["data"]["number"])


async def write(system: System, tenant: Tenant, writer: int, dice: random.Random) -> None:
    """Transactions of one to three events that overlap with those of other writers, until canceled; some roll back."""
    number = 0
    while True:
        with suppress(_Undone):
            try:
                async with system.stage.pool.acquire() as connection, connection.transaction():
                    for _ in range(dice.randint(1, 3)):
                        number += 1
                        await connection.execute(_INSERT, tenant.id, {"number": f"{writer}:{number}"})
                        await asyncio.sleep(dice.uniform(0, 0.03))
                    if dice.random() < 0.1:
                        raise _Undone
            except Exception as error:
                if not database.is_outage(error):
                    raise
                await asyncio.sleep(0.1)


class _Undone(Exception):
    """Rolls a transaction back."""


async def strike(system: System, what: str, down: float) -> None:
    """Kill one of them, and start it again after so many seconds."""
    match what:
        case "broker":
            system.kill_broker()
            await asyncio.sleep(down)
            await system.start_broker()
        case "database":
            await system.stop_database()
            await asyncio.sleep(down)
            await system.start_database()
        case _:
            assert system.runs(what), f"{what} ended by itself"
            await system.kill(what)
            await asyncio.sleep(down)
            system.launch(what)


@asynccontextmanager
async def following(
    system: System, tenant: Tenant, dice: random.Random
) -> AsyncIterator[tuple[list[Follower], "asyncio.Future[list[None]]"]]:
    """Clients that follow and writers that write; the second are done once they are canceled."""
    url = f"http://127.0.0.1:{system.settings.api_port}/v1/live"
    clients = [Follower(url, tenant, random.Random(dice.random())) for _ in range(CLIENTS)]
    for client in clients:
        await client.begin()
    follows = asyncio.gather(*(client.follow() for client in clients))
    writes = asyncio.gather(*(write(system, tenant, writer, random.Random(dice.random())) for writer in range(WRITERS)))
    try:
        yield clients, writes
    finally:
        for tasks in (writes, follows):
            tasks.cancel()
            with suppress(asyncio.CancelledError):
                await tasks


async def test_live_clients_lose_and_double_nothing_while_all_is_killed(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    dice = random.Random(os.environ.get(SEED, "live"))
    async with playing(
        stack, settings, tmp_path, channel=channel_settings(),
        api_port=free_port(), api_live_heartbeat=5.0, api_rate_limit=1_000_000,
    ) as system:  # fmt: skip
        await faults.listen(system)
        await system.start("api.1", "api.2", "relay.1", "relay.2")
        async with system.stage.pool.acquire() as connection, connection.transaction():
            key = await api_keys.create(connection, system.stage.ours.tenant_id, "test", ["events:read"])
        tenant = Tenant(system.stage.ours.tenant_id, key.key, key.stored.id)
        async with following(system, tenant, dice) as (clients, writes):
            struck: Counter[str] = Counter()
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                for what in FAULTS:
                    await asyncio.sleep(dice.uniform(*QUIET))
                    await strike(system, what, dice.uniform(*DOWN))
                    struck[what] += 1
                    assert not writes.done(), writes
            await system.ready("api.1", "api.2", "relay.1", "relay.2")
            writes.cancel()
            with suppress(asyncio.CancelledError):
                await writes
            made = [row["number"] for row in await system.rows(_MADE, tenant.id)]
            with suppress(TimeoutError):
                async with asyncio.timeout(ALL_SEEN_WITHIN):
                    while min(len(client.seen) for client in clients) < len(made):  # noqa: ASYNC110 (they set no event)
                        await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)  # for one that comes twice
        print(f"\nkilled {dict(struck)}; {len(made)} events", flush=True)
        for client in clients:
            print(_report(client, made), flush=True)
        await verdicts.all_relayed(system, faults.EVENTS)
        for client in clients:
            assert client.seen == made
            assert not client.reloads


def _report(client: Follower, made: list[str]) -> str:
    lost, times = set(made) - set(client.seen), Counter(client.seen)
    doubled = sum(count - 1 for count in times.values())
    return (
        f"received {len(client.seen)}, lost {len(lost)}, doubled {doubled}, in order: {client.seen == made}, "
        f"{client.sockets} sockets, {client.reloads} reloads, ends: {dict(client.ends)}"
    )
