"""The contract of a worker: it declares its queues, the jobs it consumes and publishes, and one handler.

A worker's file is options at the top and one function. Decoding, retries, dead letters and acks are the runner's.
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
from shared.queue.jobs import Job
from shared.queue.publisher import Publisher
from shared.queue.topology import WorkQueue
from shared.resilience.lock_waits import LockWaits
from shared.settings import Settings

log = get_logger(__name__)

J = TypeVar("J", bound=Job)
R = TypeVar("R")

Opener = Callable[[Settings], AbstractAsyncContextManager[R]]


@asynccontextmanager
async def nothing(_: Settings) -> AsyncIterator[None]:
    """The resource of a worker that needs none."""
    yield None


@dataclass(slots=True)
class Context(Generic[R]):
    """The connections and resources that a handler works with.

    `resource` is what the worker's opener made for this process. Once `stopping` is set, a handler that does several
    things in a row ends after the current one. `locks` are the tenants that are known to hold locks.
    """

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

    async def publish(self, *jobs: Job) -> None:
        """Publish the jobs that follow from one commit, in one envelope per queue.

        Never raises for the broker: the jobs' rows are due again after a lease, so that a lost publish costs seconds.
        """
        try:
            await self.publisher.publish(*jobs)
        except PublishFailed as error:
            if self.publisher.ready:  # else its link says that the broker is away
                self.log.warning("publish not confirmed", count=len(jobs), error=str(error))


Handler = Callable[[J, Context[R]], Awaitable[None]]
BatchHandler = Callable[[Sequence[J], Context[R]], Awaitable[Sequence[J] | None]]
Postpone = Callable[[J, Context[R], timedelta | None], Awaitable[None]]


@dataclass(slots=True)
class Worker(Generic[J, R]):
    """One stage of the pipeline. It has the name of its file; each of its queues has a runner of its own, and may hold
    jobs of each type that it consumes."""

    name: str
    queues: tuple[WorkQueue, ...]
    consumes: tuple[type[J], ...]
    publishes: tuple[type[Job], ...] = ()
    concurrency: int = 10  # handlers at once, per queue and process
    batch: int = 1  # the most jobs that a batch handler is given at once
    batches: int | None = None  # batch handlers at once, per queue and process; None: as `concurrency`
    one_by_one: tuple[WorkQueue, ...] = ()  # queues for `handler`, of a worker that has a batch handler too
    open: Opener[R] = field(default=nothing)  # type: ignore[assignment]  # R is None then
    handler: Handler[J, R] | None = None
    batch_handler: BatchHandler[J, R] | None = None
    postponing: Postpone[J, R] | None = None
    beside: "Loop[R] | None" = None  # runs in each process of the worker, with the same resource

    def handle(self, handler: Handler[J, R]) -> Handler[J, R]:
        """Decorate the function that handles one job. It returns, or raises Retry, DeadLetter or another error."""
        self.handler = handler
        return handler

    def handle_batch(self, handler: BatchHandler[J, R]) -> BatchHandler[J, R]:
        """Decorate the function that handles many jobs in one transaction.

        Where it raises, the runner halves the batch until the job that causes the error is alone. It returns the jobs
        that it left, because another session locks their rows or the others took too long: each of them is given to it
        again, alone, and then it waits for the lock.
        """
        self.batch_handler = handler
        return handler

    def takes_batches(self, queue: WorkQueue) -> bool:
        """Whether the jobs of this queue of the worker's go to its batch handler."""
        return self.batch_handler is not None and queue not in self.one_by_one

    def at_once(self, queue: WorkQueue) -> int:
        """How many handlers run at once for this queue in one process."""
        return (self.batches or self.concurrency) if self.takes_batches(queue) else self.concurrency

    def postpone(self, function: Postpone[J, R]) -> Postpone[J, R]:
        """Decorate the function that moves the due time of a job's row after the job failed.

        The row is not due before `wait` is over. Until then its job is on the retry schedule, and without a later due
        time the clock would publish a copy of it every lease. A `wait` of None: the job is dead-lettered, and the row
        is parked (no due time, its state as it was) until an operator replays the dead letter. The handler then gives
        the row a due time again.
        """
        self.postponing = function
        return function


@dataclass(slots=True)
class Loop(Generic[R]):
    """A worker without a queue: its function runs until the process stops."""

    name: str
    publishes: tuple[type[Job], ...] = ()
    open: Opener[R] = field(default=nothing)  # type: ignore[assignment]  # R is None then
    body: Callable[[Context[R]], Awaitable[None]] | None = None

    def run(self, body: Callable[[Context[R]], Awaitable[None]]) -> Callable[[Context[R]], Awaitable[None]]:
        """Decorate the function that the process runs. Where it raises, it is started again after a second."""
        self.body = body
        return body
