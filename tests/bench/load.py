"""The load generator, a process of its own: python -m tests.bench.load URL COUNT FILE --connections N | --rate R

With --connections each connection writes the next webhook as soon as its last one was answered. With --rate webhooks
leave by the clock, whatever is still unanswered. With --first each is from a customer of its own, else from one of
CUSTOMERS by lot.
Everything is built and signed before the first one leaves, and only bytes are moved then. FILE gets the result.
"""

import argparse
import asyncio
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.bench.webhooks import request, senders

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
PATIENCE = 60.0  # seconds without any answer


@dataclass(slots=True)
class Sent:
    """One webhook: when it left and when its answer was there (monotonic seconds, the same clock in all processes)."""

    customer: int
    started: float
    answered: float
    status: int


class Connection(asyncio.Protocol):
    """One request at a time over one connection that is kept."""

    def __init__(self, answered: Callable[["Connection", int], None], lost: Callable[[], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None
        self.customer = 0
        self.started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by its type

    def send(self, customer: int, data: bytes) -> None:
        assert self._transport is not None
        self.customer = customer
        self.started = time.monotonic()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if end else None
        if length is None or len(body) < int(length[1]):
            return
        self._buffer = b""
        self._answered(self, int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Sends the prepared webhooks and notes what became of each."""

    def __init__(self, url: str, requests: list[tuple[int, bytes]]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._requests = requests
        self._next = iter(requests)
        self._idle: list[Connection] = []
        self._open: list[Connection] = []
        self._done = asyncio.Event()
        self.sent: list[Sent] = []
        self.lost = 0

    async def closed(self, connections: int) -> None:
        """Keep so many connections busy until all are answered."""
        for _ in range(connections):
            await self._connect(self._write_next)
        for connection in list(self._open):
            self._write_next(connection)
        await self._all()

    async def by_the_clock(self, rate: float) -> None:
        """So many a second, from whatever connection is idle, else from a new one."""
        for _ in range(8):
            self._idle.append(await self._connect(self._idle.append))
        beginning = time.monotonic() + 0.1
        for index, (customer, data) in enumerate(self._requests):
            await asyncio.sleep(max(0.0, beginning + index / rate - time.monotonic()))
            connection = self._idle.pop() if self._idle else await self._connect(self._idle.append)
            connection.send(customer, data)
        await self._all()

    async def _connect(self, free: Callable[[Connection], None]) -> Connection:
        def answered(connection: Connection, status: int) -> None:
            self.sent.append(Sent(connection.customer, connection.started, time.monotonic(), status))
            if len(self.sent) == len(self._requests):
                self._done.set()
            else:
                free(connection)

        def lost() -> None:
            if not self._done.is_set():
                self.lost += 1
                self._done.set()

        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(answered, lost), self._host, self._port)
        self._open.append(connection)
        return connection

    def _write_next(self, connection: Connection) -> None:
        following = next(self._next, None)
        if following is not None:
            connection.send(*following)

    async def _all(self) -> None:
        answered = -1
        while not self._done.is_set() and len(self.sent) > answered:
            answered = len(self.sent)
            try:
                await asyncio.wait_for(self._done.wait(), PATIENCE)
            except TimeoutError:
                continue
        self._done.set()
        for connection in self._open:
            connection.close()


async def run(arguments: argparse.Namespace) -> Load:
    count, first = arguments.count, arguments.first
    customers = senders(count) if first is None else range(first, first + count)
    requests = [(customer, request(arguments.url, number, customer)) for number, customer in enumerate(customers)]
    gc.collect()
    gc.freeze()
    load = Load(arguments.url, requests)
    if arguments.rate:
        await load.by_the_clock(arguments.rate)
    else:
        await load.closed(arguments.connections)
    return load


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--connections", type=int)
    how.add_argument("--rate", type=float)
    parser.add_argument("--first", type=int, help="each webhook from a customer of its own; the first one's number")
    arguments = parser.parse_args()
    load = uvloop.run(run(arguments))
    result = {"lost": load.lost, "sent": [[s.customer, s.started, s.answered, s.status] for s in load.sent]}
    arguments.file.write_bytes(orjson.dumps(result))


if __name__ == "__main__":
    main()
