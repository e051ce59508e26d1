"""Room in memory that large things take turns for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """So many bytes, shared in the order in which they are asked for: what is large is not overtaken for ever."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def held(self, wanted: int) -> AsyncIterator[None]:
        """Wait for so many bytes, and have them for as long as the block lasts. What is larger than all has all."""
        wanted = min(wanted, self._size)
        async with self._turn:
            while self._free < wanted:
                self._freed.clear()
                await self._freed.wait()
            self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted
            self._freed.set()
