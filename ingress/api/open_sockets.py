"""Counts the sockets and event streams that are open, what is written to them and how late, and why each was closed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram

from ingress.api.live.items import Happened, Item
from ingress.api.problems import Problem

Kind = Literal["websocket", "sse", "trpc_websocket", "trpc_sse"]
"""`websocket` and `sse` are those of /v1/live."""

OPEN: Final = Gauge("palomar_api_sockets", "Sockets and event streams that are open", ["kind"])
ITEMS: Final = Counter("palomar_api_socket_items", "Items and answers written to sockets and event streams", ["kind"])
CLOSED: Final = Counter(
    "palomar_api_sockets_closed",
    "Sockets and event streams that ended, by why: client (it left), ended, restart, slow, or a problem's name",
    ["kind", "reason"],
)
DELAY: Final = Histogram(
    "palomar_api_event_delay_seconds",
    "From an event's time to its being written to the last client of /v1/live that waited for it",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


class OpenSocket:
    """One that is open."""

    def __init__(self, kind: Kind) -> None:
        self.reason = "client"  # for which it is closed, unless it is closed for another one
        self._items = ITEMS.labels(kind)

    def wrote(self, item: Item | None = None) -> None:
        """One more item was written, or an answer."""
        self._items.inc()
        if isinstance(item, Happened) and item.recorded_at is not None:
            DELAY.observe(max(0.0, time.time() - item.recorded_at))

    def closes(self, reason: Literal["ended", "restart", "slow"] | Problem) -> None:
        """It is being closed from here."""
        self.reason = reason.type.name if isinstance(reason, Problem) else reason


@contextmanager
def counted(kind: Kind) -> Iterator[OpenSocket]:
    """Count a socket until the block ends."""
    OPEN.labels(kind).inc()
    socket = OpenSocket(kind)
    try:
        yield socket
    finally:
        OPEN.labels(kind).dec()
        CLOSED.labels(kind, socket.reason).inc()
