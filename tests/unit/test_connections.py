"""Which connection is closed where too many wait for a request, as a table, and with sockets on a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network

import pytest
from aiohttp import web

from shared.http.connections import BoundedServer, Waiting, unproven
from shared.http.sources import Sources
from shared.process.health import serving

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("steps", "closed"),
    [
        ("a1 b2 c3 d4", ""),
        ("a1 b2 c3 d4 e5", "a"),  # of all, that which has waited longest
        ("a1 b2 c3 d4 -a e5 f6", "b"),  # one that has sent its request is in no one's way
        ("a1 b2 c3 d4 -a a1 e5", "b"),  # it waits anew after its answer
        ("a1 b2 c1", "a"),  # a fourth of an address
        ("a1 b2 c2 d2", "bc"),
        ("a- b- c- d-", ""),  # behind our own proxy is anyone
        ("a- b- c- d- e-", "a"),
        ("-a a1 -a -a b1", ""),
    ],
)
def test_which_connection_is_closed(steps: str, closed: str) -> None:
    waiting, found = Waiting[str](4), ""
    for step in steps.split():
        if step.startswith("-"):
            waiting.leave(step[1])
        else:
            found += waiting.enter(step[0], None if step[1] == "-" else step[1]) or ""
    assert found == closed


@asynccontextmanager
async def server(waiting: int, proxies: str = "127.0.0.1/32") -> AsyncIterator[int]:
    """It answers `/` at once, and `/first` once its client has sent a byte of a body; the port."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/first":
            with unproven(request):
                await request.content.readany()
        return web.Response(text="hello")

    kind = partial(BoundedServer, waiting=waiting, sources=Sources([ip_network(proxies)]))
    async with serving(answer, "127.0.0.1", 0, kind=kind) as port:
        yield port


async def connected(port: int, first: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    await writer.drain()
    return reader, writer


async def answered(streams: Streams) -> bool:
    """Whether a request on this connection gets its answer."""
    reader, writer = streams
    writer.write(REQUEST)
    try:
        async with asyncio.timeout(5):
            return b"hello" in await reader.readuntil(b"hello")
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


@pytest.mark.parametrize(
    "first",
    [b"", b"GET / HTTP/1.1\r\nHost:", b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"],
    ids=["silent", "half a head", "no proof"],
)
async def test_those_that_wait_longest_make_room(first: bytes) -> None:
    async with server(waiting=8) as port:
        crowd = [await connected(port, first) for _ in range(40)]
        ours = await connected(port)
        assert await answered(ours)
        assert await answered(ours), "a connection that is in use goes on"
        async with asyncio.timeout(5):
            ended = [await reader.read() for reader, _ in crowd[:33]]
        assert ended == [b""] * 33
        assert not crowd[-1][0].at_eof()
        for _, writer in (*crowd, ours):
            writer.close()


async def test_one_address_has_a_fourth_of_the_places() -> None:
    async with server(waiting=8, proxies="192.0.2.1/32") as port:
        crowd = [await connected(port) for _ in range(4)]
        async with asyncio.timeout(5):
            assert [await reader.read() for reader, _ in crowd[:2]] == [b"", b""]
        assert await answered(crowd[2])
        assert await answered(crowd[3])
        for _, writer in crowd:
            writer.close()
