"""Shares the connections among tenants: no tenant's calls hold more than so many at once, the others wait in turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary


class Turns:
    """At most `each` calls of a tenant work at once; one that has waited `patience` seconds raises TimeoutError."""

    def __init__(self, each: int, patience: float) -> None:
        self._each = each
        self._patience = patience
        self._of: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()  # of tenants with calls

    @asynccontextmanager
    async def take(self, tenant_id: UUID) -> AsyncIterator[None]:
        turn = self._of.get(tenant_id)
        if turn is None:
            turn = self._of[tenant_id] = asyncio.Semaphore(self._each)
        async with asyncio.timeout(self._patience):
            await turn.acquire()
        try:
            yield
        finally:
            turn.release()
