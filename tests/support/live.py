"""Clients of /v1/live for tests, events to be streamed, and an API in a process of its own, to be killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import orjson

from ingress.api.live import hub
from shared import database
from shared.settings import Settings
from shared.store.events import Event, record
from tests.support.api import Tenant
from tests.support.processes import ROOT, environ

Item = dict[str, Any]


@dataclass
class Client:
    """One WebSocket of /v1/live; `items` are those that came, in their order."""

    socket: aiohttp.ClientWebSocketResponse
    items: list[Item] = field(default_factory=list)
    code: int = 0  # with which it was closed

    async def next(self, kind: str | None = None, within: float = 30.0) -> Item:
        """The next item, or the next one of this kind. Raises EOFError where the socket is closed."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), within)
            if message.type is not aiohttp.WSMsgType.TEXT:
                # What the socket itself says is 1006 where the other side had gone before our answer to its close.
                closed = message.type is aiohttp.WSMsgType.CLOSE
                self.code = int(message.data) if closed else int(self.socket.close_code or 0)
                raise EOFError(f"closed: {self.code}")
            item: Item = orjson.loads(message.data)
            self.items.append(item)
            if kind in (None, item["type"]):
                return item

    async def events(self, count: int) -> list[Item]:
        """The next so many events."""
        return [(await self.next("event"))["event"] for _ in range(count)]

    async def to_the_end(self) -> int:
        """Read until the socket is closed; returns the code."""
        with suppress(EOFError):
            while True:
                await self.next()
        return self.code

    @property
    def last_id(self) -> str:
        found: str = self.items[-1]["id"]
        return found


@asynccontextmanager
async def connected(
    client: aiohttp.ClientSession, whose: Tenant | None, frame: Any = None, *, url: str = "/v1/live"
) -> AsyncIterator[Client]:
    """A socket whose first frame is sent; by default it wants every event from now on."""
    headers = {} if whose is None else {"Authorization": f"Bearer {whose.key}"}
    async with client.ws_connect(url, headers=headers, max_msg_size=0) as socket:
        await socket.send_str(frame if isinstance(frame, str) else orjson.dumps(frame or {}).decode())
        yield Client(socket)


async def happen(
    pool: database.Pool, whose: Tenant | UUID, *names: str, number: int = 0, conversation_id: UUID | None = None,
    channel_id: UUID | None = None, padding: str = "",
) -> None:  # fmt: skip
    """One transaction in which these happened; `number` is in each one's data."""
    tenant_id = whose if isinstance(whose, UUID) else whose.id
    assert tenant_id is not None
    detail: dict[str, str | int | float | bool | None] = {"number": number}
    if padding:
        detail["padding"] = padding
    async with pool.acquire() as connection, connection.transaction():
        await record(
            connection,
            *(
                Event(name, tenant_id, channel_id=channel_id, conversation_id=conversation_id, detail=detail)
                for name in names
            ),
        )


def numbers(events: Iterable[Item]) -> list[int]:
    return [event["data"]["number"] for event in events]


class Process:
    """`python -m …` with these settings, which a test may kill."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self._arguments = arguments
        self._environ = {"PATH": os.environ["PATH"], **environ(settings)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments], cwd=ROOT, env=self._environ, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


async def streams_open(count: int) -> None:
    """Return once this process serves so many streams of events, at least."""
    async with asyncio.timeout(30):
        while True:
            if hub.STREAMS._value.get() >= count:
                return
            await asyncio.sleep(0.02)


async def end_sessions(settings: Settings) -> None:
    """End every session with the test's database but those of the test itself, as a restart of the database would."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
            "AND application_name NOT LIKE 'palomar test%'"
        )
    finally:
        await connection.close()
