"""Does together what many tasks ask of the database at about the same time: one round trip and one commit for all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from enum import Enum
from typing import Final, Generic, TypeVar

from shared.database.outages import is_outage

A = TypeVar("A")
R = TypeVar("R")


class Apart(Enum):
    """The answer of a batch to what has to be done by itself."""

    APART = "apart"


APART: Final = Apart.APART


class _DoneWithout(Exception):
    """The batch was done without this one."""


class Together(Generic[A, R]):
    """Collects what is asked for during `wait` seconds, or while the last batch is at work, and does it in one go."""

    def __init__(
        self, work: Callable[[Sequence[A]], Awaitable[Sequence[R | Apart]]], *, most: int, wait: float = 0.0
    ) -> None:
        """`work` gets at most `most` of what was asked for, and returns an answer to each, in the same order."""
        self._work = work
        self._most = most
        self._wait = wait
        self._asked: list[tuple[A, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, asked: A, apart: Callable[[], Awaitable[R]] | None = None) -> R:
        """The answer. Raises what `work` raised for its batch.

        With `apart`, one that fails fails alone: where the batch was done without this one, or failed, the answer is
        what `apart` returns, in this task. An outage is raised all the same: the batch may have been committed.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._asked.append((asked, future))
        if self._running is None or self._running.done():
            # In no job's context: a batch gives way to the locks of no tenant (lock_waits), and logs in no job's name.
            self._running = asyncio.get_running_loop().create_task(self._run(), context=Context())
        try:
            return await future
        except Exception as error:
            if apart is None or is_outage(error):
                raise
        return await apart()

    async def _run(self) -> None:
        while self._asked:
            await asyncio.sleep(self._wait)
            batch = [(asked, future) for asked, future in self._asked[: self._most] if not future.done()]
            del self._asked[: self._most]
            try:
                answers = await self._work([asked for asked, _ in batch]) if batch else []
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Apart):
                    future.set_exception(_DoneWithout())
                else:
                    future.set_result(answer)
