"""Decides when a worker's jobs may run: not while the database is away or a circuit breaker is open."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from shared import database
from shared.process import metrics
from shared.process.log import get_logger
from shared.queue.connection import BrokerAway, PublishUnknown
from shared.queue.delivery import JobRun
from shared.resilience.backoff import Backoff
from shared.resilience.circuit_breaker import CircuitBreakers, Scope
from shared.settings import Settings

log = get_logger(__name__)

OUTAGES_LIMIT: Final = 20  # "database away" in a row for one job while the database answers all others
OUTAGE_PAUSE: Final = Backoff(first=0.1, longest=30.0)  # between them: the server still answers when its disk is full
BROKER_PAUSE: Final = 0.5  # seconds before a publish that the broker did not confirm is repeated


class Gate:
    """The conditions under which one queue's jobs run in this process, and the signal that it stops."""

    def __init__(
        self, queue: str, settings: Settings, watch: database.DatabaseWatch, *, retry_delays: Sequence[float]
    ) -> None:
        self._queue = queue
        self._watch = watch
        self._stopping = asyncio.Event()
        self.breakers = CircuitBreakers(
            share=settings.circuit_breaker_share,
            window=settings.circuit_breaker_window,
            trial=settings.circuit_breaker_trial,
            longest=retry_delays[-1],
            now=time.monotonic,
        )

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let no further job run, and end all waiting."""
        self._stopping.set()

    async def wait(self) -> bool:
        """Wait until jobs may run. False when the process is stopping."""
        while not self.stopping:
            if not self._watch.up:
                await self.database_up()
            elif (delay := self.breakers.worker.wait()) > 0:
                await self.pause(min(delay, 1.0))
            else:
                return True
        return False

    async def database_up(self) -> None:
        """Wait until the database answers or the process is stopping."""
        await self._unless_stopping(self._watch.wait())

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the process is stopping."""
        await self._unless_stopping(asyncio.sleep(seconds))

    async def _unless_stopping(self, work: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(work), asyncio.create_task(self._stopping.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def outage(self, run: JobRun[Any], error: BaseException) -> bool:
        """Whether this error is an outage, after which the same is tried again without counting an attempt.

        Returns after a pause where the broker is away, or the database is away for this job only. For an outage of the
        database itself `wait` waits.
        """
        if isinstance(error, (BrokerAway, PublishUnknown)):
            await self.pause(BROKER_PAUSE)
            return True
        if not database.is_outage(error) or run.outages >= OUTAGES_LIMIT:
            return False
        if isinstance(error, TimeoutError) and await self._watch.answers():
            return False  # one statement takes too long, and the others do not
        self._watch.lost(error)
        if run.outages:
            await self.pause(OUTAGE_PAUSE.delay(run.outages))
        run.outages += 1
        return True

    def record(self, scope: Scope, *, failed: bool) -> None:
        """Count a job that succeeded or failed permanently, and log and export what that changes."""
        was_open = self.breakers.worker.open
        change = self.breakers.record(scope, failed=failed)
        if change is not None:
            metrics.OPEN_SCOPES.labels(self._queue).set(len(self.breakers.open_scopes))
            about = {"queue": self._queue, "tenant": str(scope.tenant), "channel": str(scope.channel)}
            log.error(f"circuit breaker of a channel {change}", **about)
        if self.breakers.worker.open != was_open:
            metrics.CIRCUIT_BREAKER.labels(self._queue).set(int(self.breakers.worker.open))
            log.error(f"circuit breaker {'opened' if self.breakers.worker.open else 'closed'}", queue=self._queue)
