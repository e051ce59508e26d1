"""Follows the events of a tenant from a cursor: what was missed from the table, then what happens from the hub.

All or nothing: a stream begins by saying that all that was missed follows, or that it can't and why. Where it follows,
each event comes once and in its order: the table is read up to the present horizon, and of the hub's events those
behind it are taken.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from typing import Final
from uuid import UUID

from ingress.api.live.hub import PAGE, STREAMS, Hub, Subscriber
from ingress.api.live.items import Filter, Happened, Heartbeat, Item, Reason, Reconnect, Started, TooSlow
from ingress.api.problems import UNAVAILABLE, Problem, invalid
from shared.database import Connection
from shared.domain.event_cursor import Cursor, Place
from shared.settings import Settings
from shared.store import event_feed as feed
from shared.store.event_feed import Order

Begin = Callable[[], AbstractAsyncContextManager[Connection]]
"""A transaction of the stream's tenant."""

BUSY: Final = 5.0  # seconds; Retry-After where there are too many streams


class Live:
    """The engine of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._streams: dict[UUID, int] = {}
        self.hub = Hub(settings)

    def follow(self, tenant_id: UUID, begin: Begin, wanted: Filter, after: Cursor | None) -> "Stream":
        """The events of a tenant behind a cursor, or from now on, until the caller leaves."""
        return Stream(self, tenant_id, begin, wanted, after)

    async def order(self, connection: Connection) -> Order:
        return await feed.order(connection, self.settings.events_days)

    async def reason_against(
        self, connection: Connection, tenant_id: UUID, after: Cursor, order: Order
    ) -> Reason | None:
        """Why what a tenant missed behind a cursor can't follow; None where it can."""
        if (reason := lost(after, order)) is not None:
            return reason
        most = self.settings.api_live_recover
        many = await feed.are_more_than(connection, tenant_id, after.place, order.horizon, most)
        return "too_many" if many else None

    @contextmanager
    def place(self, tenant_id: UUID) -> Iterator[None]:
        """A place among the streams of this process. Raises a Problem where there is none, for one tenant or at all."""
        most, ours = self.settings.api_live_streams, self._streams.get(tenant_id, 0)
        if sum(self._streams.values()) >= most or ours >= max(1, most // 2):
            raise Problem(UNAVAILABLE, "Too many streams are open. Close some, or come again.", retry_after=BUSY)
        self._streams[tenant_id] = ours + 1
        STREAMS.inc()
        try:
            yield
        finally:
            STREAMS.dec()
            left = self._streams[tenant_id] - 1
            if left:
                self._streams[tenant_id] = left
            else:
                del self._streams[tenant_id]


class Stream:
    """One stream of a tenant's events."""

    def __init__(self, live: Live, tenant_id: UUID, begin: Begin, wanted: Filter, after: Cursor | None) -> None:
        self._live = live
        self._tenant_id = tenant_id
        self._begin = begin
        self._wanted = wanted
        self._after = after
        self._identity = b""  # of the database
        self._place: Place = (0, 0)  # every wanted event up to here was an item
        self._subscriber: Subscriber | None = None
        self._ending: int | None = None
        self.at: Cursor | None = None  # of the last item
        self.when_overflowed: Callable[[], object] | None = None  # called once, also while an item is being sent

    async def items(self) -> AsyncGenerator[Item, None]:
        """Its items, until it ends with a Reconnect or TooSlow. Raises a Problem, and the errors of an outage.

        Close it (`aclosing`) where you leave it early.
        """
        hub = self._live.hub
        with self._live.place(self._tenant_id), ExitStack() as leaving:
            leaving.callback(self._forget_client)
            if self._after is not None:
                async for item in self._recover(self._after):
                    self.at = item.at
                    yield item
            subscriber = hub.add(self._tenant_id, self._wanted, self._live.settings.api_live_buffer)
            subscriber.when_overflowed = self.when_overflowed
            subscriber.reconnect = self._ending
            self._subscriber = subscriber
            try:
                async for item in self._join():
                    self.at = item.at
                    yield item
                while not isinstance(item := await self._next(subscriber), Reconnect | TooSlow):
                    self.at = item.at
                    yield item
                yield item
            finally:
                hub.remove(self._tenant_id, subscriber)

    def _forget_client(self) -> None:
        """Refer no longer to the client, which refers to this stream: only the collector would find the two."""
        self.when_overflowed = None
        if self._subscriber is not None:
            self._subscriber.when_overflowed = None

    def end(self) -> None:
        """Ask the client to come again, at a random moment."""
        self._ending = self._live.hub.jitter()
        if self._subscriber is not None:
            self._subscriber.end(self._ending)

    async def _recover(self, after: Cursor) -> AsyncIterator[Item]:
        """The start, and all that was missed and is settled by now. No buffer fills meanwhile."""
        async with self._begin() as connection:
            order = await self._live.order(connection)
            reason = await self._live.reason_against(connection, self._tenant_id, after, order)
        self._identity = order.identity
        if reason is not None:
            self._place = order.end.place
            yield Started(order.end, recovered=False, reason=reason)
            return
        self._place = after.place
        yield Started(after, recovered=True)
        async for event in self._missed(order.horizon, order.end.place):
            yield event

    async def _join(self) -> AsyncIterator[Item]:
        """What happened until the hub serves this stream; its events behind that place are those to come."""
        hub = self._live.hub
        async with asyncio.timeout(self._live.settings.api_patience):
            place = await hub.join()
        if self._after is None:
            self._identity, self._place = hub.identity, place
            yield Started(Cursor(hub.identity, hub.day, place), recovered=None)
        elif hub.identity != self._identity:
            raise Problem(UNAVAILABLE, "The database was replaced by another one at this moment. Come again.")
        elif place > self._place:
            async for event in self._missed(place[0] + 1, place):
                yield event

    async def _next(self, subscriber: Subscriber) -> Item:
        """The next item: an event, or a heartbeat where there is none for a while, or the end."""
        assert self.at is not None, "a stream has a start"
        while (event := await subscriber.next(self._live.settings.api_live_heartbeat)) is not None:
            if event.place > self._place:  # else the table had it, too
                self._place = event.place
                return event
        if subscriber.overflowed:
            return TooSlow(self.at)
        if subscriber.reconnect is not None:
            return Reconnect(self.at, subscriber.reconnect)
        idle = self._live.hub.place
        if idle is None or idle <= self._place:
            return Heartbeat(self.at)
        self._place = idle  # nothing up to there waits for this stream
        return Heartbeat(Cursor(self._identity, self._live.hub.day, idle))

    async def _missed(self, below: int, end: Place) -> AsyncIterator[Happened]:
        """The wanted events behind this stream's place, of transactions below, as fast as the client takes them.

        Its place is `end` then, or behind it.
        """
        while True:
            async with self._begin() as connection:
                rows = await feed.of_tenant(connection, self._tenant_id, self._place, below, PAGE)
            for stored in rows:
                self._place = stored.place
                if self._wanted.wants(stored):
                    yield Happened.of(self._identity, stored)
            if len(rows) < PAGE:
                self._place = max(self._place, end)
                return


def lost(after: Cursor, order: Order) -> Reason | None:
    """Why events behind a cursor may be gone, or are none of this order; None where all are there."""
    if after.identity != order.identity or after.place[0] >= order.horizon:
        return "epoch"
    return "too_old" if after.may_lack(order.oldest) else None


def cursor_of(text: str | None, field: str) -> Cursor | None:
    """The cursor that a client gave back. Raises the problem of what is none."""
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        remedy = "Give the `id` of the last item that you have seen, or leave it out."
        raise invalid(field, "This is no cursor of this API.", remedy) from None
