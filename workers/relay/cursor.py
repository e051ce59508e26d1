"""The active relay's place among the events: up to where it has read, and up to where all is published."""

import time
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.database.each_row import skipped
from shared.queue.jobs import EventHappened
from shared.store import events

Place = tuple[int, int]  # (xid, seq)


class Cursor:
    """`relay_cursor` in the hands of the active relay. Events between the row's place and `read` are held back."""

    def __init__(self, connection: database.Connection, holder: UUID, lease: float) -> None:
        self._connection = connection
        self._holder = holder
        self._seconds = lease
        self._lease = timedelta(seconds=lease)
        self._published: Place = (0, 0)
        self._renewed_at = 0.0
        self.read: Place = (0, 0)

    async def take(self) -> bool:
        """Become the active relay, which reads on from the row's place. False: another one is active."""
        place = await events.lead(self._connection, self._holder, self._lease)
        if place is not None:
            self.read = self._published = place
            self._renewed_at = time.monotonic()
        return place is not None

    async def keep(self) -> bool:
        """Renew the lease in good time. False: another relay is active, or has been, or the row was moved."""
        if time.monotonic() - self._renewed_at <= self._seconds / 3:
            return True
        self._renewed_at = time.monotonic()
        return await events.lead(self._connection, self._holder, self._lease) == self._published

    async def next(self, limit: int) -> list[EventHappened]:
        """The events after `read`, which stays where it is."""
        return await events.after(self._connection, *self.read, limit)

    async def move(self) -> bool:
        """Move the row's place to `read`: the broker has confirmed all up to there. False: another relay is active."""
        if self.read == self._published:
            return True
        self._renewed_at = time.monotonic()
        self._published = self.read
        return await events.move_cursor(self._connection, self._holder, self._lease, *self.read)

    async def step_over(self, error: Exception) -> bool:
        """Skip the next event, which can't be read; it stays in its table. Returns as `move`. Raises the error where
        there is no next event: then no row caused it."""
        place = await events.place_after(self._connection, *self.read)
        if place is None:
            raise error
        skipped("event", error, xid=str(place[0]), seq=str(place[1]))
        self.read = place
        return await self.move()

    async def lag(self) -> float:
        """Age in seconds of the oldest event that is not published."""
        return await events.lag(self._connection)
