"""Lets no more than so many calls of one tenant, or of whatever else they share, work at once; others wait in turn."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """At most `each` calls of one kind work at once; one that has waited `patience` seconds raises TimeoutError."""

    def __init__(self, each: int, patience: float) -> None:
        self._each = each
        self._patience = patience
        self._of: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()  # of those with calls

    @asynccontextmanager
    async def take(self, of: Hashable) -> AsyncIterator[None]:
        turn = self._of.get(of)
        if turn is None:
            turn = self._of[of] = asyncio.Semaphore(self._each)
        if turn.locked():
            async with asyncio.timeout(self._patience):
                await turn.acquire()
        else:
            await turn.acquire()
        try:
            yield
        finally:
            turn.release()
