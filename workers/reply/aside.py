"""Runs the few replies that wait for another server although their jobs came to the queue of those that don't."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from structlog.contextvars import bound_contextvars

from shared.process.log import get_logger
from shared.process.tasks import cancel
from shared.queue.jobs import ReplyWanted

log = get_logger(__name__)

MOST: Final = 16  # at once in one process; further ones are due again by their rows


class Aside:
    """The replies under way beside the batches: their channels had another engine when their jobs were made.

    A batch does not wait for them. Their jobs count as done: each reply has its lease, and is due again without.
    """

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, wanted: ReplyWanted, reply: Callable[[ReplyWanted], Awaitable[None]]) -> None:
        """Begin this reply, unless too many are under way: then it is left to its row's due time."""
        if len(self._under_way) < MOST:
            task = asyncio.create_task(self._run(wanted, reply))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _run(self, wanted: ReplyWanted, reply: Callable[[ReplyWanted], Awaitable[None]]) -> None:
        with bound_contextvars(**wanted.about):
            try:
                await reply(wanted)
            except Exception as error:  # the row has its due time, and its next job comes to the queue of its engine
                log.warning("reply failed", error=type(error).__name__)

    async def close(self) -> None:
        """Cancel what is under way: its leases are released."""
        await cancel(self._under_way)
