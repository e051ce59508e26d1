"""Does together what many turns ask of the database at about the same time: one round trip for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Together(Generic[A, R]):
    """Collects what is asked for during `wait` seconds, or while the last batch is at work, and does it in one go."""

    def __init__(self, work: Callable[[Sequence[A]], Awaitable[Sequence[R]]], wait: float, most: int) -> None:
        """`work` gets at most `most` of what was asked for, and returns an answer to each, in the same order."""
        self._work = work
        self._wait = wait
        self._most = most
        self._asked: list[tuple[A, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, asked: A) -> R:
        """The answer. Raises what `work` raised for its batch."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._asked.append((asked, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._asked:
            await asyncio.sleep(self._wait)
            batch = self._asked[: self._most]
            del self._asked[: self._most]
            batch = [(asked, future) for asked, future in batch if not future.done()]
            try:
                answers = await self._work([asked for asked, _ in batch]) if batch else []
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
