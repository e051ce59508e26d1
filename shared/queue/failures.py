"""Decides what becomes of a job that failed or met a lock: retry it, let it wait, or dead-letter it."""

import asyncio
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Generic, TypeVar

from shared import database
from shared.process import metrics
from shared.process.log import get_logger
from shared.queue import topology
from shared.queue.connection import PublishFailed, is_cancellation
from shared.queue.delivery import (
    ATTEMPT,
    DEAD_LETTERED_AT,
    OVERTIME,
    QUEUE,
    REASON,
    TRACEBACK,
    Delivery,
    JobRun,
)
from shared.queue.envelope import Undecodable, dump, envelope
from shared.queue.gate import BROKER_PAUSE, Gate
from shared.queue.jobs import Job
from shared.queue.outcomes import DeadLetter, Retry
from shared.queue.worker import Context, Worker
from shared.resilience.backoff import retry_step
from shared.resilience.circuit_breaker import NO_SCOPE, Scope
from shared.resilience.lock_waits import PAUSE, Locked

log = get_logger(__name__)

J = TypeVar("J", bound=Job)
R = TypeVar("R")

OVERTIME_LIMIT: Final = 20  # attempts of one job that took too long while the database answered; then it fails

# Why a job waits that has not failed.
BREAKER_OPEN: Final = "the circuit breaker of its tenant's channel is open"
LOCKED: Final = "its tenant holds a lock"


class ConsumersKilled(Exception):
    """The processes that held a job were killed, again and again."""


class Failures(Generic[J, R]):
    """Settles the jobs of one queue that were not handled.

    A job leaves for the retry schedule or the dead-letter queue by a confirmed publish; only then is it settled.
    """

    def __init__(
        self,
        worker: Worker[J, R],
        queue: topology.WorkQueue,
        context: Context[R],
        gate: Gate,
        *,
        retry_delays: Sequence[float],
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._context = context
        self._publisher = context.publisher
        self._gate = gate
        self._delays = retry_delays

    async def failed(self, run: JobRun[J], error: BaseException) -> None:
        """Count a failed attempt: the job goes to the next retry step, or to the dead letters after the last one."""
        attempt = run.attempt + 1
        after = error.after if isinstance(error, Retry) else 0.0
        step = None if isinstance(error, DeadLetter) else retry_step(attempt, after, self._delays)
        if step is not None:
            log.warning("job failed", attempt=attempt, retry_in=self._delays[step], error=summary(error))
            await self._retry(run, step, attempt, describe(error), "retried", run.delivery.overtime)
        elif await self._postpone_row(run, None):
            body = envelope(run.job.type, [dump(run.job)])
            await self.dead_letter(
                run.delivery, body, error, attempt=attempt, message_id=run.job.key, scope=run.job.scope
            )
            await run.delivery.settled()

    async def wait_for_lock(self, run: JobRun[J], error: BaseException) -> bool:
        """Let a job wait whose rows are locked, and with it the next jobs of its tenant. No attempt is counted.

        There is no limit to waiting for a lock, which ends by itself. False where statements took too long instead,
        more than OVERTIME_LIMIT times in a row.
        """
        overtime = run.delivery.overtime + 1 if isinstance(error, TimeoutError) else 0
        if overtime > OVERTIME_LIMIT:
            return False
        tenant = run.job.tenant
        if isinstance(error, Locked):
            pause = error.after
        else:
            pause = PAUSE.first if tenant is None else self._context.locks.in_vain(tenant)
        log.warning("job waits", queue=self._queue.name, tenant=str(tenant), seconds=pause, error=summary(error))
        await self.postpone(run, pause, LOCKED, overtime)
        return True

    async def postpone(self, run: JobRun[J], wait: float, reason: str, overtime: int | None = None) -> None:
        """Let a job wait on the retry schedule for at least so many seconds. No attempt is counted."""
        step = retry_step(1, wait, self._delays)
        assert step is not None, "there is a first step"
        overtime = run.delivery.overtime if overtime is None else overtime
        await self._retry(run, step, run.attempt, reason, "postponed", overtime)

    async def _retry(self, run: JobRun[J], step: int, attempt: int, reason: str, outcome: str, overtime: int) -> None:
        delay = self._delays[step]
        if not await self._postpone_row(run, delay):
            return
        body = envelope(run.job.type, [dump(run.job)])
        headers: dict[str, str | int] = {ATTEMPT: attempt, REASON: reason, QUEUE: self._queue.name}
        if overtime:
            headers[OVERTIME] = overtime
        await self.publish(run.delivery, topology.RetryStep(delay).name, body, run.job.key, headers)
        metrics.JOBS.labels(self._queue.name, outcome).inc()
        await run.delivery.settled()

    async def _postpone_row(self, run: JobRun[J], delay: float | None) -> bool:
        """Move the due time of the job's row, before the job itself leaves: killed in between, we get the job again.

        An error here is logged, and the job leaves all the same. False where the broker has taken the job back, or the
        process stops during an outage.
        """
        postpone = self._worker.postponing
        if postpone is None:
            return True
        lease = self._context.settings.handoff_lease
        wait = None if delay is None else timedelta(seconds=delay + lease)
        while run.delivery.alive:
            try:
                await database.repeat(lambda: postpone(run.job, self._context, wait))
                return True
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                if not await self._gate.outage(run, error):
                    log.error("row not postponed", queue=self._queue.name, error=summary(error))
                    return True
            if self._gate.stopping:
                return False
            await self._gate.database_up()
        return False

    async def dead_letter(
        self,
        delivery: Delivery,
        body: bytes,
        error: BaseException,
        *,
        message_id: str | None,
        attempt: int | None = None,
        scope: Scope = NO_SCOPE,
    ) -> None:
        """Put a body into the dead-letter queue, with the reason in its headers."""
        log.error(
            "job dead-lettered", queue=self._queue.name, reason=summary(error), dead_letters=self._queue.dead_letters
        )
        undecoded = isinstance(error, Undecodable)
        headers: dict[str, str | int] = {
            REASON: describe(error),
            TRACEBACK: "" if undecoded else "".join(traceback.format_exception(error))[-4000:],
            QUEUE: self._queue.name,
            ATTEMPT: delivery.attempt + 1 if attempt is None else attempt,
            DEAD_LETTERED_AT: int(time.time()),
        }
        await self.publish(delivery, topology.DEAD_LETTERS, body, message_id, headers)
        metrics.JOBS.labels(self._queue.name, "dead").inc()
        self._gate.record(scope, failed=True)

    async def publish(
        self,
        delivery: Delivery,
        exchange: str,
        body: bytes,
        message_id: str | None,
        headers: Mapping[str, str | int],
    ) -> None:
        """Publish under our queue's name until it is confirmed, or until the broker has taken the delivery back."""
        while delivery.alive:
            try:
                await self._publisher.publish_body(
                    exchange,
                    self._queue.name,
                    body,
                    message_id=message_id or "",
                    type_=delivery.type,
                    headers=headers,
                )
                return
            except PublishFailed as error:
                if self._publisher.ready:  # else its link logs that the broker is away
                    log.warning("publish not confirmed, trying again", exchange=exchange, error=str(error))
                await asyncio.sleep(BROKER_PAUSE)


def describe(error: BaseException) -> str:
    """One line for a header: our own outcomes by their reason, other errors by type and text. Not for a log."""
    if isinstance(error, (Retry, DeadLetter, Undecodable)):
        return str(error)[:500]
    return f"{type(error).__name__}: {error}"[:500]


def summary(error: BaseException) -> str:
    """One line for a log. The texts of other errors quote what failed, which may be a customer's words or number."""
    if isinstance(error, (Retry, DeadLetter, Undecodable, ConsumersKilled)):
        return str(error)[:300]
    known = [str(known) for name in ("sqlstate", "constraint_name") if (known := getattr(error, name, None))]
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = [f"{part.name}:{part.lineno}" for part in frame]
    return " ".join([type(error).__name__, *known, *where])
