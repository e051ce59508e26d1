"""Many clients that only want to be in the way, as a process of their own:

python -m tests.support.crowd HOST PORT PATH TYPE …

    stalled COUNT SIZE   so many connections, each with half a body of so many bytes; again where one is closed
    paced COUNT SIZE     the same with whole bodies, each just fast enough to be no slow one
    thrown COUNT SIZE    so many connections, each with one unsigned body after the other
    silent COUNT SIZE    so many connections, every other one with the first bytes of a head, the others with nothing;
                         again, in its own time, where one is closed

An address that follows is theirs as a proxy of ours would name it, and a key that follows they send with each request.
It goes on until it is killed, and prints a line once all have begun. `crowd` starts and ends it.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from shared.http.connections import raise_descriptor_limit

ROOT: Final = Path(__file__).resolve().parents[2]
PACE: Final = 90_000  # bytes a second of a paced body
PAUSE: Final = 0.05  # seconds until a connection that was closed is made again
OWN_TIME: Final = 20.0  # seconds within which a silent one is
OWN_ADDRESSES: Final = 8  # from which silent ones connect


@asynccontextmanager
async def crowd(url: str, path: str, media_type: str, *how: str) -> AsyncIterator[None]:
    """A crowd at a path of a server, as long as the block lasts; `how` as above."""
    server = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.crowd", str(server.hostname), str(server.port), path, media_type, *how,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"begun\n"
        yield
    finally:
        process.kill()
        await process.wait()


class Crowd:
    def __init__(self, host: str, port: int, head: bytes, size: int) -> None:
        self._host = host
        self._port = port
        self._head = head
        self._size = size
        self._addresses = itertools.cycle(f"127.0.1.{number}" for number in range(1, OWN_ADDRESSES + 1))
        self._beginnings = itertools.cycle((b"", self._head[:size]))

    async def hold(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError), socket.socket() as connection:  # ten thousand streams would cost much more
            connection.setblocking(False)
            connection.bind((next(self._addresses), 0))
            await loop.sock_connect(connection, (self._host, self._port))
            await loop.sock_sendall(connection, next(self._beginnings))
            await loop.sock_recv(connection, 1)
        await asyncio.sleep(random.uniform(0, OWN_TIME))

    async def stall(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._head + bytes(self._size // 2))
        await reader.read()  # to the end: it hangs up
        writer.close()

    async def pace(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        answered = asyncio.create_task(reader.read())
        writer.write(self._head)
        for _ in range(0, self._size, PACE // 10):
            if answered.done():
                break
            writer.write(bytes(PACE // 10))
            await asyncio.sleep(0.1)
        await answered
        writer.close()

    async def throw(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        answered = asyncio.create_task(reader.readline())
        writer.write(self._head + bytes(self._size))
        await answered
        writer.close()

    async def insist(self, kind: str, begun: asyncio.Event) -> None:
        kinds = {"stalled": self.stall, "paced": self.pace, "thrown": self.throw, "silent": self.hold}
        while True:
            with contextlib.suppress(OSError):
                attempt = asyncio.create_task(kinds[kind]())
                await asyncio.sleep(PAUSE)
                begun.set()
                await attempt


async def main(
    host: str, port: str, path: str, media_type: str, kind: str, count: str, size: str, address: str = "", key: str = ""
) -> None:
    raise_descriptor_limit()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {size}\r\n"
    if address:
        head += f"X-Forwarded-For: {address}\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    crowd = Crowd(host, int(port), f"{head}\r\n".encode(), int(size))
    begun = [asyncio.Event() for _ in range(int(count))]
    everybody = asyncio.gather(*(crowd.insist(kind, one) for one in begun))
    await asyncio.gather(*(one.wait() for one in begun))
    print("begun", flush=True)
    await everybody


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
