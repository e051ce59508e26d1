"""Bounds what is sent for as long as its reader takes, files and exports: how many at once, and how long each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from ingress.api.problems import TOO_LARGE, UNAVAILABLE, Problem
from ingress.api.turns import Turns

AGAIN: Final = 2.0  # seconds that one waits for another one of its tenant to end; Retry-After


class Downloads:
    """All of one kind in one process; each holds a part of what it sends in memory."""

    def __init__(self, what: str, *, at_once: int, of_a_tenant: int, longest: float) -> None:
        """`what` names them in refusals. A tenant has so many `of_a_tenant` of those `at_once`: a client that reads
        slowly is in the way of its own tenant only. One takes at most `longest` seconds."""
        self._what = what
        self._longest = longest
        self._places = asyncio.Semaphore(at_once)
        self._turns = Turns(of_a_tenant, AGAIN, what)

    @asynccontextmanager
    async def one(self, tenant_id: UUID) -> AsyncIterator[None]:
        """Count one until the block ends. Raises the problem of one too many, or of one that takes too long."""
        async with self._turns.take(tenant_id):
            if self._places.locked():
                raise Problem(UNAVAILABLE, f"Too many {self._what} are under way. Try again.", retry_after=AGAIN)
            async with self._places:
                try:
                    async with asyncio.timeout(self._longest) as time:
                        yield
                except TimeoutError:
                    if not time.expired():
                        raise
                    detail = f"It took longer than {self._what} may, {self._longest:g} seconds. Ask for less at once."
                    raise Problem(TOO_LARGE, detail) from None
