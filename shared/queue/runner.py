"""Runs one queue of a worker in this process: consume → decode → handle → ack.

The life of a delivery: the consumer takes it from the queue, the runner decodes it into jobs, the executor handles each
job (alone or in a batch), each failed job goes to the retry schedule or to the dead letters, and the delivery is acked
once no job of it is left. An outage of database or broker is never a failure of a job: the job stays unacked and is
handled when both answer. A lock that a tenant holds makes only this tenant's jobs wait, on the retry schedule and
without an attempt.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from aio_pika.abc import AbstractConnection

from shared import database
from shared.process import metrics
from shared.process.log import get_logger
from shared.process.tasks import cancel
from shared.queue import topology
from shared.queue.connection import Link
from shared.queue.consumer import Consumer
from shared.queue.delivery import ATTEMPT, Delivery, JobRun
from shared.queue.envelope import Undecodable, decode, dump, envelope
from shared.queue.executor import Executor
from shared.queue.failures import ConsumersKilled, Failures
from shared.queue.gate import Gate
from shared.queue.jobs import Job
from shared.queue.worker import Context, Worker
from shared.resilience.circuit_breaker import CircuitBreakers

log = get_logger(__name__)

J = TypeVar("J", bound=Job)
R = TypeVar("R")

BATCH_PREFETCH: Final = 100  # unacked envelopes of a batch handler, to fill its batches from
KILLED_CONSUMERS: Final = 5  # earlier deliveries that count as a failed attempt; from the third on it is handled alone


class Runner(Generic[J, R]):
    """Runs one queue of a worker in this process."""

    def __init__(
        self, worker: Worker[J, R], queue: topology.WorkQueue, context: Context[R], watch: database.DatabaseWatch
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._context = context
        retry_delays = [step.delay for step in topology.retry_schedule(context.settings.retry_delays)]
        self._gate = Gate(queue.name, context.settings, watch, retry_delays=retry_delays)
        self._failures = Failures(worker, queue, context, self._gate, retry_delays=retry_delays)
        self._executor = Executor(worker, queue, context, self._gate, self._failures)
        self._at_once = worker.at_once(queue)
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._consumer = Consumer(
            queue,
            queue.prefetch or (BATCH_PREFETCH if worker.takes_batches(queue) else worker.concurrency),
            self._deliveries.put_nowait,
            before=watch.wait,  # a worker starts to consume only once the database answers
            redeclare=self._declare,
        )

    @property
    def queue(self) -> topology.WorkQueue:
        return self._queue

    @property
    def consuming(self) -> bool:
        return self._consumer.consuming

    @property
    def breakers(self) -> CircuitBreakers:
        return self._gate.breakers

    # -- start, stop -----------------------------------------------------------------------------------------------

    def start(self, link: Link) -> list[asyncio.Task[None]]:
        """Start to consume over this link. The tasks end by `stop` only; one that ends before has raised."""
        name = self._queue.name
        self._tasks = [
            asyncio.create_task(self._consumer.run(link), name=f"{name} consume"),
            asyncio.create_task(self._feed(), name=f"{name} feed"),
            *(asyncio.create_task(self._executor.work(), name=f"{name} {n}") for n in range(self._at_once)),
        ]
        return self._tasks

    async def stop(self, grace: float) -> None:
        """Take no more deliveries, let running handlers finish for `grace` seconds, return the rest to the broker."""
        self._gate.stop()
        await self._consumer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._executor.idle.wait()
        await cancel(self._tasks)
        await self._consumer.close()

    async def _declare(self, connection: AbstractConnection) -> None:
        await topology.declare_missing(connection, self._context.settings.retry_delays)

    # -- from delivery to jobs -------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        while not self._gate.stopping:
            delivery = await self._deliveries.get()
            if delivery.alive:
                await self._open(delivery)

    async def _open(self, delivery: Delivery) -> None:
        """Decode an envelope, and pass its jobs to the executor."""
        try:
            opened = decode(delivery.incoming.body, self._worker.consumes)
            valid, invalid = opened.valid, opened.invalid
            delivery.read(opened.type)
        except Undecodable as error:
            valid, invalid = [], []
            if not await self._dead_letter_undecoded(delivery, delivery.incoming.body, str(error)):
                return
        if delivery.suspect and len(valid) + len(invalid) > 1:
            await self._take_apart(
                delivery, [(job.key, dump(job)) for job in valid] + [(None, raw) for raw, _ in invalid]
            )
            valid, invalid = [], []
        delivery.opened(max(len(valid) + len(invalid), 1))
        for raw, reason in invalid:
            if not await self._dead_letter_undecoded(delivery, envelope(delivery.type, [raw]), reason):
                return
            await delivery.settled()
        if delivery.earlier_deliveries >= KILLED_CONSUMERS and valid:
            killed = ConsumersKilled(f"{delivery.earlier_deliveries} processes were killed while they held it")
            await self._failures.failed(JobRun(valid[0], delivery), killed)
            return
        for job in valid:
            metrics.IN_HAND.labels(self._queue.name).inc()
            await self._executor.waiting.put(JobRun(job, delivery))
        if not valid and not invalid:
            await delivery.settled()

    async def _dead_letter_undecoded(self, delivery: Delivery, body: bytes, reason: str) -> bool:
        """Dead-letter what no handler can be given. False where the delivery is not ours any more."""
        if not await self._gate.wait() or not delivery.alive:
            return False
        message_id = delivery.incoming.message_id if body is delivery.incoming.body else None
        await self._failures.dead_letter(delivery, body, Undecodable(reason), message_id=message_id)
        return True

    async def _take_apart(self, delivery: Delivery, jobs: Sequence[tuple[str | None, bytes]]) -> None:
        """Republish each job in an envelope of its own: only the one that kills its consumer is dead-lettered then."""
        log.warning("taking an envelope apart", queue=self._queue.name, jobs=len(jobs))
        headers = {ATTEMPT: delivery.attempt}
        await asyncio.gather(
            *(
                self._failures.publish(delivery, topology.WORK, envelope(delivery.type, [job]), key, headers)
                for key, job in jobs
            )
        )
