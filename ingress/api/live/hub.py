"""Reads the table `events` once for all streams of this process, and gives each the events of its tenant.

It reads what is settled: events of transactions below every one that still runs, in the order of (transaction,
sequence). What commits late is therefore never behind it. NOTIFY wakes it, and a poll does where a notification is
lost. While the database is away it keeps its place, and goes on there.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Final
from uuid import UUID

from prometheus_client import Counter, Gauge

from ingress.api.live.items import Filter, Happened
from shared import database
from shared.domain.event_cursor import Place
from shared.process.log import get_logger
from shared.process.outage_log import OutageLog
from shared.process.tasks import cancel
from shared.settings import Settings
from shared.store import event_feed as feed
from shared.store.event_feed import StoredEvent

log = get_logger(__name__)

STREAMS: Final = Gauge("palomar_api_streams", "Streams of events that are open")
DELIVERED: Final = Counter("palomar_api_stream_events", "Events given to streams")
SLOW: Final = Counter("palomar_api_streams_slow", "Streams that were ended because their client was too slow")

PAGE: Final = 500  # events of one read
AT_ONCE: Final = 20  # events that are put into the buffers before the streams may send
GATHERING: Final = 0.01  # seconds between a notification and the read, so that one read serves many commits
SETTLING: Final = 0.02  # seconds; a notification came, and a transaction that began before still runs
OVERHEAD: Final = 64  # bytes that an event in a buffer costs beside its JSON
# An outage longer than this ends all streams: what was recorded meanwhile is for each client to catch up with.
LONGEST_GAP: Final = 3600.0  # seconds
CHECK_EVERY: Final = 5.0  # seconds after which the hub looks whether the database is still the same one


class Subscriber:
    """The buffer of one stream: what happened and is not sent yet, within a bound of bytes."""

    __slots__ = (
        "_limit", "_quiet_at", "_timer", "_waiter", "_waiting", "filter", "overflowed", "reconnect", "size",
        "when_overflowed",
    )  # fmt: skip

    def __init__(self, wanted: Filter, limit: int) -> None:
        self.filter = wanted
        self.size = 0  # bytes
        self.overflowed = False
        self.reconnect: int | None = None  # milliseconds: the stream is to end, and to come again within them
        self.when_overflowed: Callable[[], object] | None = None
        self._limit = limit
        self._waiting: deque[Happened] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_at = 0.0  # by the loop's clock

    def push(self, event: Happened) -> None:
        if self.overflowed:
            return
        self._waiting.append(event)
        self.size += len(event.body) + OVERHEAD
        if self.size > self._limit:
            self._waiting.clear()
            self.overflowed = True
            SLOW.inc()
            if self.when_overflowed is not None:
                self.when_overflowed()
        self._wake()

    def end(self, within_ms: int) -> None:
        self.reconnect = within_ms
        self._wake()

    async def next(self, within: float) -> Happened | None:
        """The next event; None where there is none within so many seconds, or the stream is to end."""
        if not self._waiting and not self.overflowed and self.reconnect is None:
            loop = asyncio.get_running_loop()
            self._quiet_at = loop.time() + within
            if self._timer is None:
                self._timer = loop.call_at(self._quiet_at, self._quiet)
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._waiting:  # after a timeout, too: an event may come at that very moment
            return None
        event = self._waiting.popleft()
        self.size -= len(event.body) + OVERHEAD
        return event

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _quiet(self) -> None:
        """End the wait where nothing has come, else set the timer anew: one for each event would cost much more."""
        self._timer = None
        if self._waiter is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._quiet_at:
            self._timer = loop.call_at(self._quiet_at, self._quiet)
        else:
            self._wake()


class Hub:
    """The one reader of a process. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_tenant: dict[UUID, set[Subscriber]] = {}
        self.place: Place | None = None  # every event up to here went to the buffers; None while there are no streams
        self.identity = b""  # of the database
        self.day = date.min  # UTC, by the database
        self.unready_reason: str | None = "events are not read yet"
        self._wanted = asyncio.Event()  # there are streams
        self._woken = asyncio.Event()  # there may be something to read
        self._joining: list[asyncio.Future[Place]] = []
        self._read_at = time.monotonic()
        self._checked_at = -CHECK_EVERY
        self._outage = OutageLog()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="live hub")

    async def close(self) -> None:
        if self._task is not None:
            await cancel([self._task])

    def add(self, tenant_id: UUID, wanted: Filter, limit: int) -> Subscriber:
        """A new subscriber. `join` says from where on it gets every event."""
        subscriber = Subscriber(wanted, limit)
        self._by_tenant.setdefault(tenant_id, set()).add(subscriber)
        self._wanted.set()
        return subscriber

    def remove(self, tenant_id: UUID, subscriber: Subscriber) -> None:
        subscriber.close()
        ours = self._by_tenant[tenant_id]
        ours.discard(subscriber)
        if not ours:
            del self._by_tenant[tenant_id]
        if not self._by_tenant:
            self._forget_place()
            self._wanted.clear()

    async def join(self) -> Place:
        """A place behind which those who are subscribed now get every event. One read serves all that join at once."""
        joined: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._joining.append(joined)
        self._woken.set()
        try:
            return await joined
        finally:  # whoever waited too long leaves
            if joined in self._joining:
                self._joining.remove(joined)

    def jitter(self) -> int:
        """Milliseconds within which a client is to come again."""
        return random.randrange(int(self._settings.api_live_reconnect * 1000) + 1)

    def _forget_place(self) -> None:
        self.place = None

    def _end_streams(self) -> None:
        for ours in self._by_tenant.values():
            for subscriber in ours:
                subscriber.end(self.jitter())

    async def _run(self) -> None:
        while True:
            try:
                await self._connected()
            except Exception as error:  # whatever it is, the streams wait for the next event
                self.unready_reason = f"events are not read: {type(error).__name__}"
                if (lasted := self._outage.failed()) is not None:
                    log.warning("events not read", error=type(error).__name__, away_for=lasted)
                await asyncio.sleep(random.uniform(0.1, 0.5))

    async def _connected(self) -> None:
        connection = await database.connect(self._settings, process="api live")
        try:
            await connection.add_listener("palomar_events", lambda *_: self._woken.set())
            await self._check(connection)
            self._outage.ended()
            self.unready_reason = None
            await self._read(connection)
        finally:
            connection.terminate()

    async def _check(self, connection: database.Connection) -> None:
        """End all streams where the database is another one, or one of the past, or was away for long."""
        order = await feed.order(connection, self._settings.events_days)
        if self.place is not None:
            is_another = order.identity != self.identity or self.place[0] >= order.horizon
            if is_another or time.monotonic() - self._read_at > LONGEST_GAP:
                self._forget_place()
                self._end_streams()
        self.identity, self.day = order.identity, order.today
        self._checked_at = time.monotonic()

    async def _read(self, connection: database.Connection) -> None:
        wait = self._settings.relay_poll
        while True:
            await self._wanted.wait()
            was_woken = self._woken.is_set()
            self._woken.clear()
            if time.monotonic() - self._checked_at >= CHECK_EVERY:
                await self._check(connection)
            horizon, self.day = await feed.horizon(connection)
            self._read_at = time.monotonic()
            if self.place is None:
                if self._by_tenant:
                    self.place = await feed.settled(connection, horizon)
                continue
            # Whoever joins while the rows are read may not be among these tenants: its turn is the next read.
            place, tenants, joining, self._joining = self.place, list(self._by_tenant), self._joining, []
            try:
                rows = await feed.of_tenants(connection, tenants, place, horizon, PAGE)
                await self._deliver(rows)
            except BaseException:
                self._joining += joining
                raise
            if self.place is not place:  # all streams ended meanwhile, and others may have begun
                self._joining += joining
                continue
            self.place = rows[-1].place if rows else max(place, await feed.settled(connection, horizon))
            for joined in joining:
                if not joined.done():
                    joined.set_result(self.place)
            if len(rows) == PAGE:
                continue
            wait = self._next_wait(wait, was_woken and not rows)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
                await asyncio.sleep(GATHERING)

    def _next_wait(self, last: float, is_unsettled: bool) -> float:
        """Seconds until the next read: soon where what was announced is not settled yet, and then ever later."""
        longest = self._settings.relay_poll
        if is_unsettled:
            return SETTLING
        return min(longest, last * 2) if last < longest else longest

    async def _deliver(self, rows: list[StoredEvent]) -> None:
        for number, stored in enumerate(rows, 1):
            wanting = [one for one in self._by_tenant.get(stored.tenant_id, ()) if one.filter.wants(stored)]
            if wanting:
                event = Happened.of(self.identity, stored)
                *others, last = wanting
                for subscriber in others:
                    subscriber.push(event)
                last.push(replace(event, recorded_at=stored.created_at.timestamp()))
                DELIVERED.inc(len(wanting))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # the streams send: a burst is no fault of a client's
