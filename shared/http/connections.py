"""Bounds the connections that wait for a request, so that those which strangers hold open leave room for all others.

A connection waits while it is silent, while its headers arrive, and between two requests. Of too many, the one that has
waited longest is closed: a client that sends its request is never in that place, and a client that is closed between
two requests connects again. `serving` ends each that has waited for half a minute besides.
"""

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, TypeVar

from aiohttp import web
from prometheus_client import Counter, Gauge

from shared.http.sources import Sources, network

DESCRIPTORS: Final = 65_536  # that a process wants, where the system allows as many
SPARE: Final = 256  # of these, for all but connections of clients: the database, the broker, files
_SERVER: Final = web.RequestKey("server", web.Server)  # by which a request knows its server

OPEN: Final = Gauge("palomar_connections", "HTTP connections that are open")
CLOSED: Final = Counter("palomar_connections_closed", "HTTP connections that were closed to make room for others")

Connection = TypeVar("Connection", bound=Hashable)


class Waiting(Generic[Connection]):
    """The connections that wait, by how long they have done so. No I/O."""

    def __init__(self, most: int) -> None:
        """At most so many wait, and a fourth of them from one address."""
        self._most = most
        self._most_of_one = max(1, most // 4)
        self._all: OrderedDict[Connection, str | None] = OrderedDict()
        self._of: dict[str, OrderedDict[Connection, None]] = {}

    def enter(self, connection: Connection, address: str | None) -> Connection | None:
        """Count a connection from here on. Returns the one, now forgotten, that must be closed for it.

        `address` is None where it is our own proxy's, through which anyone may come.
        """
        self._all[connection] = address
        if address is not None:
            own = self._of.setdefault(address, OrderedDict())
            own[connection] = None
            if len(own) > self._most_of_one:
                return self._forgotten(next(iter(own)))
        return self.longest() if len(self._all) > self._most else None

    def longest(self) -> Connection | None:
        """The one that has waited longest, now forgotten; None where none waits."""
        return self._forgotten(next(iter(self._all))) if self._all else None

    def leave(self, connection: Connection) -> None:
        """It waits no longer."""
        if connection not in self._all:
            return
        address = self._all.pop(connection)
        if address is not None:
            own = self._of[address]
            del own[connection]
            if not own:
                del self._of[address]

    def _forgotten(self, connection: Connection) -> Connection:
        self.leave(connection)
        return connection


class BoundedServer(web.Server):
    """aiohttp's server with bounds on its connections."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        waiting: int,
        sources: Sources,
        **rest: Any,
    ) -> None:
        """At most `waiting` connections wait for a request. `rest` is for aiohttp."""
        super().__init__(self._answer, **rest)
        self._handler = handler
        self._sources = sources
        self._most = max(1, _descriptors() - SPARE)
        self._waiting: Waiting[web.RequestHandler] = Waiting(min(waiting, self._most))
        self._open: set[web.RequestHandler] = set()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(handler, transport)
        self._open.add(handler)
        OPEN.inc()
        self._wait(handler)
        if len(self._open) > self._most:
            _close(self._waiting.longest())

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection has ended."""
        super().connection_lost(handler, exc)
        if handler in self._open:
            self._open.remove(handler)
            OPEN.dec()
        self._waiting.leave(handler)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        request[_SERVER] = self
        self._waiting.leave(connection)
        try:
            return await self._handler(request)
        finally:
            if connection in self._open:
                self._wait(connection)

    @contextmanager
    def awaiting(self, connection: web.RequestHandler) -> Iterator[None]:
        """Let a connection count as one that waits for a request, until the block ends."""
        self._wait(connection)
        try:
            yield
        finally:
            self._waiting.leave(connection)

    def _wait(self, connection: web.RequestHandler) -> None:
        peer = connection.peername
        address = peer[0] if isinstance(peer, tuple) else None
        _close(self._waiting.enter(connection, None if self._sources.is_proxy(address) else network(address)))


@contextmanager
def unproven(request: web.BaseRequest) -> Iterator[None]:
    """Until the block ends, close the connection of a request as one without a request may be closed: its client has
    yet to prove who it is."""
    server = request.get(_SERVER)
    assert isinstance(server, BoundedServer), "it serves where strangers connect"
    with server.awaiting(request.protocol):
        yield


def raise_descriptor_limit() -> None:
    """Let this process open as many files and connections as it may need, if the system allows it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if wanted > _descriptors():
        with suppress(OSError, ValueError):  # some systems have a lower bound than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _descriptors() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def _close(connection: web.RequestHandler | None) -> None:
    if connection is not None:
        CLOSED.inc()
        connection.force_close()
