"""What a worker declares: its queue, what it consumes and publishes, and one handler. Nothing here does I/O.

A worker is options at the top and one function; everything mechanical is the runner's.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from structlog.typing import FilteringBoundLogger

from shared import database
from shared.process.log import get_logger
from shared.queue.connection import PublishFailed
from shared.queue.jobs import QueueMessage
from shared.queue.publisher import Publisher
from shared.queue.topology import WorkQueue
from shared.resilience.lock_waits import LockWaits
from shared.settings import Settings

log = get_logger(__name__)

M = TypeVar("M", bound=QueueMessage)
R = TypeVar("R")

Opener = Callable[[Settings], AbstractAsyncContextManager[R]]


@asynccontextmanager
async def nothing(_: Settings) -> AsyncIterator[None]:
    """The resource of a worker that needs none."""
    yield None


@dataclass(slots=True)
class Context(Generic[R]):
    """What a handler works with. `resource` is what the worker's opener made for this process; once `stopping` is set,
    a handler that does one thing after another ends with the one at hand. `locks`: the tenants who hold locks."""

    settings: Settings
    pool: database.Pool
    publisher: Publisher
    resource: R
    log: FilteringBoundLogger = log
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    locks: LockWaits = field(default_factory=lambda: LockWaits(time.monotonic))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[database.Connection]:
        """A transaction on a connection of the pool. Never hold one open across HTTP."""
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection

    async def hand_on(self, *messages: QueueMessage) -> None:
        """Publish what one commit hands on, one envelope per queue.

        Never raises for the broker: the rows are due again a lease later, so a lost publish costs seconds.
        """
        try:
            await self.publisher.publish(*messages)
        except PublishFailed as error:
            if self.publisher.ready:  # else its link says that the broker is away
                self.log.warning("hand-on not confirmed", count=len(messages), error=str(error))


Handler = Callable[[M, Context[R]], Awaitable[None]]
BatchHandler = Callable[[Sequence[M], Context[R]], Awaitable[None]]
PutOff = Callable[[M, Context[R], timedelta | None], Awaitable[None]]


@dataclass(slots=True)
class Worker(Generic[M, R]):
    """One stage of the pipeline. Its name is its file's; each of its queues is a lane that runs by itself."""

    name: str
    queues: tuple[WorkQueue, ...]
    consumes: type[M]
    publishes: tuple[type[QueueMessage], ...] = ()
    concurrency: int = 10  # handlers at once, per lane and process
    batch: int = 1  # items a batch handler is given at once, at most
    open: Opener[R] = field(default=nothing)  # type: ignore[assignment]  # R is None then
    handler: Handler[M, R] | None = None
    batch_handler: BatchHandler[M, R] | None = None
    putting_off: PutOff[M, R] | None = None

    def handle(self, handler: Handler[M, R]) -> Handler[M, R]:
        """Decorate the function that takes one item. It returns, or raises Retry, Dead or an error."""
        self.handler = handler
        return handler

    def handle_batch(self, handler: BatchHandler[M, R]) -> BatchHandler[M, R]:
        """Decorate the function that takes many items in one transaction.

        Where it raises, the runner halves the batch until the item that does it stands alone.
        """
        self.batch_handler = handler
        return handler

    def put_off(self, function: PutOff[M, R]) -> PutOff[M, R]:
        """Decorate the function that tells an item's row when the item failed.

        The row is not due before `wait` is over: until then its item stands on the retry ladder, and the clock would
        hand on a copy of it every lease. With None the item is buried: the row is set aside (no due time, its state as
        it was) until an operator replays the dead letter. The handler then gives the row its due times again.
        """
        self.putting_off = function
        return function


@dataclass(slots=True)
class Loop(Generic[R]):
    """A worker without a queue: its function runs until it is cancelled."""

    name: str
    publishes: tuple[type[QueueMessage], ...] = ()
    open: Opener[R] = field(default=nothing)  # type: ignore[assignment]  # R is None then
    body: Callable[[Context[R]], Awaitable[None]] | None = None

    def run(self, body: Callable[[Context[R]], Awaitable[None]]) -> Callable[[Context[R]], Awaitable[None]]:
        """Decorate the function. Where it raises, it is started again after a second."""
        self.body = body
        return body
