"""decode → handle → publish → ack. The only place that acks.

The life of a delivery: taken from the queue, taken apart into items, each item handled (alone or in a batch), each
failed item sent to the retry ladder or buried, and the envelope acked when nothing of it is left. Database or broker
being away is never a failure of the item: it is kept unacked and handled when both answer. A lock that a tenant holds
keeps its own items waiting, on the retry schedule and without an attempt.
"""

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

from aio_pika.abc import AbstractConnection
from structlog.contextvars import bound_contextvars

from shared import database
from shared.process import metrics
from shared.process.log import get_logger
from shared.queue import topology
from shared.queue.connection import BrokerAway, Link, PublishFailed, PublishUnknown, is_cancellation
from shared.queue.consumer import Consumer
from shared.queue.delivery import ATTEMPT, DIED_AT, OVERTIME, QUEUE, REASON, TRACEBACK, Delivery, Item
from shared.queue.envelope import Undecodable, decode, dump, envelope
from shared.queue.jobs import QueueMessage
from shared.queue.outcomes import Dead, Retry
from shared.queue.publisher import Publisher
from shared.queue.worker import Context, Worker
from shared.resilience.backoff import Backoff, rung
from shared.resilience.circuit_breaker import NO_SCOPE, CircuitBreakers, Scope
from shared.resilience.lock_waits import PAUSE, Locked

log = get_logger(__name__)

M = TypeVar("M", bound=QueueMessage)
R = TypeVar("R")
Run = Callable[[Sequence[Item[M]]], Awaitable[None]]

BATCH_PREFETCH: Final = 100  # envelopes in hand of a batch handler, to fill its batches from
DIED_ON_IT: Final = 5  # earlier deliveries that count as a failed attempt; from the third on it was handled alone
OVERTIME_LIMIT: Final = 20  # tries of one item that took too long while the database answered; then it fails
OUTAGES_LIMIT: Final = 20  # "database away" in a row for one item while the database answers everybody else
OUTAGE_PAUSE: Final = Backoff(first=0.1, longest=30.0)  # between them: a full disk answers too
INSIST_PAUSE: Final = 0.5  # seconds

# Why an item waits that has not failed.
SET_APART: Final = "most items of its tenant's channel die"
LOCKED: Final = "its tenant holds a lock"


class ConsumerDied(Exception):
    """The processes that had an item in hand went, again and again."""


class Runner(Generic[M, R]):
    """Runs one lane of a worker in this process."""

    def __init__(
        self, worker: Worker[M, R], queue: topology.WorkQueue, context: Context[R], watch: database.DatabaseWatch
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._context = context
        self._watch = watch
        self._publisher: Publisher = context.publisher
        self._locks = context.locks
        settings = context.settings
        self._delays = [step.delay for step in topology.ladder(settings.retry_delays)]
        self.breakers = CircuitBreakers(
            share=settings.brake_share,
            window=settings.brake_window,
            trial=settings.brake_trial,
            longest=self._delays[-1],
            now=time.monotonic,
        )
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._items: asyncio.Queue[Item[M]] = asyncio.Queue(maxsize=max(worker.batch, worker.concurrency))
        self._busy = 0  # handlers
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._consumer = Consumer(
            queue,
            queue.prefetch or (BATCH_PREFETCH if worker.batch_handler else worker.concurrency),
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

    # -- start, stop -----------------------------------------------------------------------------------------------

    def start(self, link: Link) -> list[asyncio.Task[None]]:
        """Start working on what comes over this link. The tasks end by `stop` only: one that ends before is a fault."""
        body = self._work_batches if self._worker.batch_handler else self._work_items
        name = self._queue.name
        self._tasks = [
            asyncio.create_task(self._consumer.run(link), name=f"{name} consume"),
            asyncio.create_task(self._feed(), name=f"{name} feed"),
            *(asyncio.create_task(body(), name=f"{name} {n}") for n in range(self._worker.concurrency)),
        ]
        return self._tasks

    async def stop(self, grace: float) -> None:
        """Take no more, let handlers that run finish for `grace` seconds, give the rest back."""
        self._stopping.set()
        await self._consumer.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._consumer.close()

    async def _declare(self, connection: AbstractConnection) -> None:
        await topology.settle(connection, self._context.settings.retry_delays)

    # -- from delivery to items ------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        while not self._stopping.is_set():
            delivery = await self._deliveries.get()
            if delivery.alive:
                await self._open(delivery)

    async def _open(self, delivery: Delivery) -> None:
        """Take an envelope apart into items for the handlers."""
        try:
            good, bad = decode(delivery.incoming.body, self._worker.consumes)
            delivery.release()
        except Undecodable as error:
            good, bad = [], []
            if not await self._bury_unread(delivery, delivery.incoming.body, str(error)):
                return
        if delivery.suspect and len(good) + len(bad) > 1:
            await self._take_apart(delivery, [(m.key, dump(m)) for m in good] + [(None, raw) for raw, _ in bad])
            good, bad = [], []
        delivery.opened(max(len(good) + len(bad), 1))
        for raw, reason in bad:
            if not await self._bury_unread(delivery, envelope(self._worker.consumes.type, [raw]), reason):
                return
            await delivery.settled()
        if delivery.earlier >= DIED_ON_IT and good:
            died = ConsumerDied(f"{delivery.earlier} processes went while they had it in hand")
            await self._failed(Item(good[0], delivery), died)
            return
        for message in good:
            metrics.IN_HAND.labels(self._queue.name).inc()
            await self._items.put(Item(message, delivery))
        if not good and not bad:
            await delivery.settled()

    async def _bury_unread(self, delivery: Delivery, body: bytes, reason: str) -> bool:
        """Bury what no handler can be given; False when it is not ours any more."""
        if not await self._gates() or not delivery.alive:
            return False
        message_id = delivery.incoming.message_id if body is delivery.incoming.body else None
        await self._bury(delivery, body, Undecodable(reason), message_id=message_id)
        return True

    async def _take_apart(self, delivery: Delivery, items: Sequence[tuple[str | None, bytes]]) -> None:
        """Republish each item by itself, so that the one that kills its consumer buries nobody else."""
        log.warning("taking an envelope apart", queue=self._queue.name, items=len(items))
        kind = self._worker.consumes.type
        headers = {ATTEMPT: delivery.attempt}
        await asyncio.gather(
            *(self._insist(delivery, topology.WORK, envelope(kind, [item]), key, headers) for key, item in items)
        )

    # -- handling --------------------------------------------------------------------------------------------------

    async def _work_items(self) -> None:
        handler = self._worker.handler
        assert handler is not None, f"worker {self._worker.name} has no handler"

        async def one(items: Sequence[Item[M]]) -> None:
            await handler(items[0].message, self._context)

        while not self._stopping.is_set():
            await self._guard([await self._items.get()], one)

    async def _work_batches(self) -> None:
        handler = self._worker.batch_handler
        assert handler is not None

        async def many(items: Sequence[Item[M]]) -> None:
            await handler([item.message for item in items], self._context)

        while not self._stopping.is_set():
            await self._guard(await self._next_batch(), many)  # by no name: it would live until the next one is there

    async def _next_batch(self) -> list[Item[M]]:
        batch = [await self._items.get()]
        while len(batch) < self._worker.batch and not self._items.empty():
            batch.append(self._items.get_nowait())
        return batch

    async def _guard(self, items: list[Item[M]], run: Run[M]) -> None:
        self._busy += 1
        self._idle.clear()
        try:
            about = items[0].message.about if len(items) == 1 else {}
            with bound_contextvars(queue=self._queue.name, **about):
                await self._handle_beside_locks(items, run)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
            metrics.IN_HAND.labels(self._queue.name).dec(len(items))

    async def _handle_beside_locks(self, items: list[Item[M]], run: Run[M]) -> None:
        """Handle items together, but those of tenants who hold locks after the others, each by itself."""
        if not self._locks:
            await self._handle(items, run)
            return
        others: list[Item[M]] = []
        theirs: list[Item[M]] = []
        for item in items:
            (theirs if item.message.tenant in self._locks else others).append(item)
        if others:
            await self._handle(others, run)
        await self._one_by_one(theirs, run)

    async def _one_by_one(self, items: Sequence[Item[M]], run: Run[M]) -> None:
        """Where one waited for a lock in vain, the next ones of its tenant's are not tried for a while."""
        later = []
        for item in items:
            if (wait := self._locks.wait(item.message.tenant)) > 0:
                later.append((item, wait))
            else:
                await self._handle([item], run)
        # Together: there may be many, again and again, and others' items come behind them.
        await asyncio.gather(*(self._postpone(item, wait, LOCKED) for item, wait in later))

    async def _handle_by_tenant(self, items: Sequence[Item[M]], run: Run[M]) -> None:
        """Each tenant's items by themselves: whose wait for a lock, is found out at nobody else's expense. The fewest
        first: a flood may be the very tenant's who holds the lock."""
        tenants: dict[UUID | None, list[Item[M]]] = {}
        for item in items:
            tenants.setdefault(item.message.tenant, []).append(item)
        if len(tenants) == 1:
            await self._one_by_one(items, run)
            return
        for theirs in sorted(tenants.values(), key=len):
            await self._handle(theirs, run)

    async def _handle(self, items: list[Item[M]], run: Run[M]) -> None:
        """Handle items together; where that fails, halve them until the one that fails stands alone.

        Returns with items unsettled when we are stopping: they are given back.
        """
        repeats = 0
        while items := [item for item in items if item.delivery.alive]:
            if self.breakers.open_scopes:
                items = await self._without_those_apart(items, run)
                if not items:
                    return
            if self.breakers.worker.open and len(items) > 1:  # a trial is one item's
                for item in items:
                    await self._handle([item], run)
                return
            if not await self._gates():
                return
            if not all(item.delivery.alive for item in items):
                continue
            started = time.monotonic()
            try:
                with self._locks.handling(items[0].message.tenant if len(items) == 1 else None):
                    await run(items)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                if await self._passes(items[0], error):
                    continue
                waits = isinstance(error, (Locked, database.LockTimeout, TimeoutError))
                if waits and len(items) > 1:
                    await self._handle_by_tenant(items, run)
                    return
                if waits and await self._waits(items[0], error):
                    return
                if database.is_conflict(error) and repeats < database.REPEATS:
                    repeats += 1
                    await asyncio.sleep(0.01 * 2**repeats)
                elif len(items) > 1:
                    middle = len(items) // 2
                    await self._handle(items[:middle], run)
                    await self._handle(items[middle:], run)
                    return
                else:
                    await self._failed(items[0], error)
                    return
            else:
                metrics.HANDLER_SECONDS.labels(self._queue.name).observe(time.monotonic() - started)
                metrics.ITEMS.labels(self._queue.name, "done").inc(len(items))
                for item in items:
                    self._record(item.message.scope, failed=False)
                    self._locks.went_through(item.message.tenant)
                    await item.delivery.settled()
                return

    async def _passes(self, item: Item[M], error: BaseException) -> bool:
        """Whether this is an outage, after which the same is tried again; the wait for it is in here and the gates."""
        if isinstance(error, (BrokerAway, PublishUnknown)):
            await self._pause(INSIST_PAUSE)
            return True
        if not database.is_outage(error) or item.outages >= OUTAGES_LIMIT:
            return False
        if isinstance(error, TimeoutError) and await self._watch.answers():
            return False  # one statement takes too long, and all others don't
        self._watch.lost(error)
        if item.outages:
            await self._pause(OUTAGE_PAUSE.delay(item.outages))
        item.outages += 1
        return True

    async def _gates(self) -> bool:
        """Wait while the database is away or the brake is on; False when we are stopping."""
        while not self._stopping.is_set():
            if not self._watch.up:
                await self._unless_stopping(self._watch.wait())
            elif (delay := self.breakers.worker.wait()) > 0:
                await self._pause(min(delay, 1.0))
            else:
                return True
        return False

    async def _pause(self, seconds: float) -> None:
        await self._unless_stopping(asyncio.sleep(seconds))

    async def _unless_stopping(self, what: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(what), asyncio.create_task(self._stopping.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _record(self, scope: Scope, *, failed: bool) -> None:
        was_open = self.breakers.worker.open
        change = self.breakers.record(scope, failed=failed)
        if change is not None:
            metrics.OPEN_SCOPES.labels(self._queue.name).set(len(self.breakers.open_scopes))
            about = {"queue": self._queue.name, "tenant": str(scope.tenant), "channel": str(scope.channel)}
            log.error(f"circuit breaker of a channel {change}", **about)
        if self.breakers.worker.open != was_open:
            metrics.CIRCUIT_BREAKER.labels(self._queue.name).set(int(self.breakers.worker.open))
            log.error(f"circuit breaker {'opened' if self.breakers.worker.open else 'closed'}", queue=self._queue.name)

    async def _without_those_apart(self, items: list[Item[M]], run: Run[M]) -> list[Item[M]]:
        """The items to be handled now. Those of a tenant's channel that is set apart wait on the retry schedule, and no
        attempt is counted; one of them is tried when it is time, by itself."""
        others = []
        for item in items:
            if item.trial or item.message.scope not in self.breakers.open_scopes:
                others.append(item)
            elif (wait := self.breakers.wait(item.message.scope)) is not None:
                await self._postpone(item, wait, SET_APART)
            else:
                item.trial = True
                if len(items) == 1:
                    return items
                await self._handle([item], run)
        return others

    # -- failing ---------------------------------------------------------------------------------------------------

    async def _failed(self, item: Item[M], error: BaseException) -> None:
        attempt = item.attempt + 1
        after = error.after if isinstance(error, Retry) else 0.0
        step = None if isinstance(error, Dead) else rung(attempt, after, self._delays)
        if step is not None:
            log.warning("item failed", attempt=attempt, retry_in=self._delays[step], error=summary(error))
            await self._retry(item, step, attempt, describe(error), "retried", item.delivery.overtime)
        elif await self._put_off(item, None):
            body = envelope(item.message.type, [dump(item.message)])
            await self._bury(
                item.delivery, body, error, attempt=attempt, message_id=item.message.key, scope=item.message.scope
            )
            await item.delivery.settled()

    async def _waits(self, item: Item[M], error: BaseException) -> bool:
        """Let an item wait whose rows somebody holds, and its tenant's next ones. False where it took too long too
        often for that. There is no end to waiting for a lock, which ends by itself."""
        overtime = item.delivery.overtime + 1 if isinstance(error, TimeoutError) else 0
        if overtime > OVERTIME_LIMIT:
            return False
        tenant = item.message.tenant
        if isinstance(error, Locked):
            pause = error.after
        else:
            pause = PAUSE.first if tenant is None else self._locks.in_vain(tenant)
        log.warning("item waits", queue=self._queue.name, tenant=str(tenant), seconds=pause, error=summary(error))
        await self._postpone(item, pause, LOCKED, overtime)
        return True

    async def _postpone(self, item: Item[M], wait: float, reason: str, overtime: int | None = None) -> None:
        step = rung(1, wait, self._delays)
        assert step is not None, "there is a first step"
        overtime = item.delivery.overtime if overtime is None else overtime
        await self._retry(item, step, item.attempt, reason, "postponed", overtime)

    async def _retry(self, item: Item[M], step: int, attempt: int, reason: str, outcome: str, overtime: int) -> None:
        """Let the item wait on a step of the retry schedule, and its row with it."""
        delay = self._delays[step]
        if not await self._put_off(item, delay):
            return
        body = envelope(item.message.type, [dump(item.message)])
        headers: dict[str, str | int] = {ATTEMPT: attempt, REASON: reason, QUEUE: self._queue.name}
        if overtime:
            headers[OVERTIME] = overtime
        await self._insist(item.delivery, topology.RetryStep(delay).name, body, item.message.key, headers)
        metrics.ITEMS.labels(self._queue.name, outcome).inc()
        await item.delivery.settled()

    async def _put_off(self, item: Item[M], delay: float | None) -> bool:
        """Tell the item's row, before the item goes where it waits: killed in between, we get the item again.

        An error of this is logged, and the item goes its way all the same. False where the item is not ours any more,
        or we are stopping during an outage and give it back.
        """
        put_off = self._worker.putting_off
        if put_off is None:
            return True
        handoff = self._context.settings.handoff_lease
        wait = None if delay is None else timedelta(seconds=delay + handoff)
        while item.delivery.alive:
            try:
                await database.repeat(lambda: put_off(item.message, self._context, wait))
                return True
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                if not await self._passes(item, error):
                    log.error("row not put off", queue=self._queue.name, error=summary(error))
                    return True
            if self._stopping.is_set():
                return False
            await self._unless_stopping(self._watch.wait())
        return False

    async def _bury(
        self,
        delivery: Delivery,
        body: bytes,
        error: BaseException,
        *,
        message_id: str | None,
        attempt: int | None = None,
        scope: Scope = NO_SCOPE,
    ) -> None:
        log.error("item buried", queue=self._queue.name, reason=summary(error), dead_queue=self._queue.dead)
        unread = isinstance(error, Undecodable)
        headers: dict[str, str | int] = {
            REASON: describe(error),
            TRACEBACK: "" if unread else "".join(traceback.format_exception(error))[-4000:],
            QUEUE: self._queue.name,
            ATTEMPT: delivery.attempt + 1 if attempt is None else attempt,
            DIED_AT: int(time.time()),
        }
        await self._insist(delivery, topology.DEAD, body, message_id, headers)
        metrics.ITEMS.labels(self._queue.name, "dead").inc()
        self._record(scope, failed=True)

    async def _insist(
        self,
        delivery: Delivery,
        exchange: str,
        body: bytes,
        message_id: str | None,
        headers: Mapping[str, str | int],
    ) -> None:
        """Publish under our queue's key until it is confirmed, or until the delivery is the broker's again."""
        while delivery.alive:
            try:
                await self._publisher.publish_body(
                    exchange,
                    self._queue.name,
                    body,
                    message_id=message_id or "",
                    type_=self._worker.consumes.type,
                    headers=headers,
                )
                return
            except PublishFailed as error:
                if self._publisher.ready:  # else its link says that the broker is away
                    log.warning("publish not confirmed, trying again", exchange=exchange, error=str(error))
                await asyncio.sleep(INSIST_PAUSE)


def describe(error: BaseException) -> str:
    """One line for a header: our own outcomes by their reason, anything else by type and text. Not for a log."""
    if isinstance(error, (Retry, Dead, Undecodable)):
        return str(error)[:500]
    return f"{type(error).__name__}: {error}"[:500]


def summary(error: BaseException) -> str:
    """One line for a log. Other people's texts quote what failed, which may be a customer's words or number."""
    if isinstance(error, (Retry, Dead, Undecodable, ConsumerDied)):
        return str(error)[:300]
    known = [str(known) for name in ("sqlstate", "constraint_name") if (known := getattr(error, name, None))]
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = [f"{part.name}:{part.lineno}" for part in frame]
    return " ".join([type(error).__name__, *known, *where])
