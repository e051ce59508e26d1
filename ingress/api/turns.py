"""Shares what a process has among tenants: none takes more than so much at once, and what is more waits in turn."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from ingress.api.problems import UNAVAILABLE, Problem

AGAIN: Final = 1.0  # seconds; Retry-After of what has waited in vain


class Turns:
    """At most `each` of one kind work at once, as of one tenant; one that has waited `patience` seconds is refused."""

    def __init__(self, each: int, patience: float, what: str) -> None:
        """`what` names them in the refusal."""
        self._each = each
        self._patience = patience
        self._what = what
        self._of: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()  # of those that have some

    @asynccontextmanager
    async def take(self, of: Hashable) -> AsyncIterator[None]:
        """Count one until the block ends. Raises the problem of one that has waited too long."""
        turn = self._of.get(of)
        if turn is None:
            turn = self._of[of] = asyncio.Semaphore(self._each)
        if turn.locked():
            await self._wait(turn)
        else:
            await turn.acquire()
        try:
            yield
        finally:
            turn.release()

    async def _wait(self, turn: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await turn.acquire()
        except TimeoutError:
            detail = f"This tenant has {self._each} {self._what} under way, as many as it may. Try again."
            raise Problem(UNAVAILABLE, detail, retry_after=AGAIN) from None
