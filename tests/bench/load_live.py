"""The clients of the row live: python -m tests.bench.load_live URL KEY TENANT FILE --sockets N --burst N --steady N

Opens the sockets, then makes events: as many at once as `--burst` says, then `--steady` more by the clock. With TENANT
they are rows of the database in DATABASE_URL; without (`-`) the floor is given the same texts to broadcast. FILE gets
when each event was made, and when it was at each socket.

The clients are bare protocols that count frames, so that two cores are enough for both sides.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp
import orjson
import uvloop

from shared import database
from shared.domain.public_events import EVENTS
from shared.settings import Settings
from shared.store.events import Event, record

RATE: Final = 5.0  # events a second of the steady part
AT_ONCE: Final = 100  # sockets that are being opened
WITHIN: Final = 120.0  # seconds for everything to arrive
_SUBSCRIBE: Final = b"\x81\x82\0\0\0\0{}"  # a text frame with a mask that changes nothing, as is:
_PONG: Final = b"\x8a\x80\0\0\0\0"
_TEXT, _CLOSE, _PING = 1, 8, 9


class Crowd:
    """All clients, and what they got."""

    def __init__(self) -> None:
        self.received: list[list[float]] = []  # of each event, in their order: when it was at each socket
        self.missing = 0  # texts that are to come
        self.closed = 0  # sockets
        self.complete = asyncio.Event()

    def expect(self, texts: int) -> None:
        self.missing += texts
        self.complete.clear()

    def got(self, number: int, at: float) -> None:
        """A socket's text of this number, where 0 is its start."""
        if number:
            self.received[number - 1].append(at)
        self.missing -= 1
        if not self.missing:
            self.complete.set()


class Client(asyncio.Protocol):
    """One socket. It reads frames no further than their headers."""

    def __init__(self, crowd: Crowd, request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._upgraded = False
        self._rest = b""
        self._texts = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.closed += 1

    def data_received(self, data: bytes) -> None:
        now, data = time.monotonic(), self._rest + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if b" 101 " not in head:
                raise RuntimeError(f"no socket: {head[:200]!r}")
            self._upgraded = True
            self._transport.write(_SUBSCRIBE)
        at = 0
        while (found := _frame(data, at)) is not None:
            kind, at = found
            if kind == _TEXT:
                self._crowd.got(self._texts, now)
                self._texts += 1
            elif kind == _PING:
                self._transport.write(_PONG)
            elif kind == _CLOSE:
                self._transport.close()
        self._rest = data[at:]


def _frame(data: bytes, at: int) -> tuple[int, int] | None:
    """The kind of the frame that begins here, and where it ends; None where it is not whole."""
    if len(data) - at < 4:
        whole = len(data) - at >= 2 and data[at + 1] <= len(data) - at - 2
        return (data[at] & 15, at + 2 + data[at + 1]) if whole else None
    length, head = data[at + 1], 2
    if length == 126:
        length, head = int.from_bytes(data[at + 2 : at + 4]), 4
    end = at + head + length
    return (data[at] & 15, end) if end <= len(data) else None


class Source(Protocol):
    """Makes so many events, all at once."""

    async def __call__(self, count: int) -> None: ...


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    crowd = Crowd()
    await _connect(crowd, arguments)
    held = [resident(arguments.pid)]
    async with aiohttp.ClientSession(arguments.url) as session:
        if arguments.tenant == "-":
            source: Source = _broadcast(session)
            made = await _make(crowd, source, arguments)
        else:
            connection = await database.connect(Settings(_env_file=None), process="bench")
            try:
                made = await _make(crowd, _rows(connection, UUID(arguments.tenant)), arguments)
            finally:
                await connection.close()
    held.append(resident(arguments.pid))
    return {"made": made, "received": crowd.received, "closed": crowd.closed, "resident": held}


async def _connect(crowd: Crowd, arguments: argparse.Namespace) -> None:
    parts = urlsplit(arguments.url)
    request = (
        f"GET /v1/live HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {arguments.key}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    for first in range(0, arguments.sockets, AT_ONCE):
        count = min(AT_ONCE, arguments.sockets - first)
        crowd.expect(count)
        await asyncio.gather(
            *(loop.create_connection(lambda: Client(crowd, request), parts.hostname, parts.port) for _ in range(count))
        )
        async with asyncio.timeout(WITHIN):
            await crowd.complete.wait()


async def _make(crowd: Crowd, source: Source, arguments: argparse.Namespace) -> list[float]:
    """Make the burst and then the others; returns when each was made. All have arrived by then."""
    made: list[float] = []

    async def make(count: int) -> None:
        crowd.received += [[] for _ in range(count)]
        crowd.expect(count * arguments.sockets)
        made.extend([time.monotonic()] * count)
        await source(count)

    async def all_there() -> None:
        async with asyncio.timeout(WITHIN):
            await crowd.complete.wait()

    await make(arguments.burst)
    await all_there()
    beginning = time.monotonic() + 0.5
    for number in range(arguments.steady):
        await asyncio.sleep(max(0.0, beginning + number / RATE - time.monotonic()))
        await make(1)
    await all_there()
    return made


def _broadcast(session: aiohttp.ClientSession) -> Source:
    event = next(one for one in EVENTS if one.name == "message_status_changed").sample()
    text = orjson.dumps({"type": "event", "id": event["id"], "event": event}).decode()

    async def post(count: int) -> None:
        async with session.post("/broadcast", data=orjson.dumps([text] * count)) as answer:
            answer.raise_for_status()

    return post


def _rows(connection: database.Connection, tenant_id: UUID) -> Source:
    async def insert(count: int) -> None:
        events = [Event("message.delivered", tenant_id, uuid4(), uuid4(), uuid4()) for _ in range(count)]
        async with connection.transaction():
            await record(connection, *events)

    return insert


def resident(pid: int) -> int:
    """Kilobytes of memory that a process holds; 0 where the system does not say."""
    try:
        lines: Sequence[str] = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.load_live", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("tenant")
    parser.add_argument("pid", type=int)
    parser.add_argument("file", type=Path)
    for name in ("sockets", "burst", "steady"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    arguments.file.write_bytes(orjson.dumps(uvloop.run(run(arguments))))


if __name__ == "__main__":
    main()
