"""Wakes the relay where a transaction has committed events."""

import asyncio
import contextlib

from shared import database

CHANNEL = "palomar_events"  # of PostgreSQL's NOTIFY; a trigger of `events` sends it


class Commits:
    """Listens to commits of events on a connection, from the first `listen` to `ignore`.

    Each commit costs its listener some CPU, so a relay that reads by the clock does not listen.
    """

    def __init__(self, connection: database.Connection) -> None:
        self._connection = connection
        self._woken = asyncio.Event()
        self._listening = False

    def seen(self) -> None:
        """Forget the commits so far: the events that they brought are about to be read."""
        self._woken.clear()

    async def listen(self) -> bool:
        """False where it begins now: what was committed before may not have been read."""
        if self._listening:
            return True
        await self._connection.add_listener(CHANNEL, self._wake)
        self._listening = True
        return False

    async def ignore(self) -> None:
        if self._listening:
            await self._connection.remove_listener(CHANNEL, self._wake)
            self._listening = False

    async def next(self, longest: float) -> None:
        """Wait for the next commit, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._woken.wait()

    def _wake(self, *_: object) -> None:
        self._woken.set()
