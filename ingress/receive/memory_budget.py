"""Bounds the memory that large bodies take while they are made durable: a weighted semaphore."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class MemoryBudget:
    """A number of bytes, reserved first come, first served: small reservations never overtake a large one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free and hold them for the block. More than the whole budget holds all of it."""
        size = min(size, self._size)
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()
