"""Publishes jobs to RabbitMQ, each confirmed by the broker; jobs that are ready together share an envelope."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared.process import metrics
from shared.process.log import get_logger
from shared.queue import topology
from shared.queue.connection import (
    BrokerAway,
    Link,
    PublishFailed,
    PublishRefused,
    PublishUnknown,
    PublishUnroutable,
    is_cancellation,
)
from shared.queue.envelope import amqp_headers, dump, envelope, group_key
from shared.queue.jobs import Job

log = get_logger(__name__)

ENVELOPE_BYTES = 256 * 1024  # an envelope takes no further job beyond this
IN_FLIGHT = 2  # publishes under way per batch; jobs that come meanwhile share the next one


@dataclass(slots=True)
class _Waiting:
    body: bytes
    key: str
    done: asyncio.Future[None]


@dataclass(slots=True)
class _PublishBatch:
    """The jobs of one type that wait to be published under one routing key."""

    exchange: str
    routing_key: str
    type: str
    limit: int  # jobs of one envelope
    waiting: deque[_Waiting] = field(default_factory=deque)
    in_flight: int = 0


class Publisher:
    """Publishes with confirms, and groups jobs that are ready together (group commit).

    While IN_FLIGHT publishes of a batch are under way, jobs that arrive wait for the next one and share its confirm.
    A single job leaves at once, so that grouping adds no wait.
    """

    def __init__(self, url: str, name: str, *, timeout: float, delays: Sequence[float] = (1, 5, 30, 120, 600)) -> None:
        self._link = Link(url, f"{name} publish", self._opened)
        self._timeout = timeout
        self._delays = delays
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, aio_pika.abc.AbstractExchange] = {}
        self._batches: dict[tuple[str, str, str], _PublishBatch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, asyncio.Event] = {}  # message_id → its publish has ended

    async def start(self) -> None:
        """Begin to connect. Does not wait for the broker: see `ready` and `wait_ready`."""
        self._link.start()

    async def close(self) -> None:
        """Finish the publishes that are under way or waiting, for one publish's timeout at most; then close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        await self._link.close()

    @property
    def ready(self) -> bool:
        return self._link.up.is_set() and self._channel is not None and not self._channel.is_closed

    async def wait_ready(self) -> None:
        await self._link.up.wait()

    async def depth(self, queue: str) -> int:
        """Envelopes that wait in a queue for a consumer. Raises BrokerAway where the broker can't be asked."""
        channel = self._channel
        if channel is None or not self.ready:
            raise BrokerAway("no connection to RabbitMQ")
        try:
            async with asyncio.timeout(self._timeout):
                declared = await channel.declare_queue(queue, passive=True)
        except (aiormq.AMQPError, OSError, RuntimeError, TimeoutError) as error:
            raise BrokerAway(f"{queue} can't be looked at: {type(error).__name__}") from error
        return declared.declaration_result.message_count or 0

    async def publish(self, *jobs: Job, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Publish and wait until the broker has confirmed all of them.

        `timeout` is in seconds for all of them. A job that has not left by then is cancelled and never sent.
        Raises PublishFailed (BrokerAway, PublishUnknown, PublishRefused).
        """
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        # All jobs are serialised before the first one joins a batch, so that an error leaves none of them behind.
        waiting = [(self._batch(job), _Waiting(dump(job), job.key, loop.create_future())) for job in jobs]
        for batch, one in waiting:
            batch.waiting.append(one)
        for batch in {id(batch): batch for batch, _ in waiting}.values():
            self._pump(batch)
        confirmed = [one.done for _, one in waiting]
        # Not asyncio.timeout: that and a gather of one future would cost ingress more than the publish itself.
        timer = None if timeout is None else loop.call_later(timeout, _fail_unconfirmed, confirmed, timeout)
        try:
            if len(confirmed) == 1:
                await confirmed[0]
            else:
                for outcome in await asyncio.gather(*confirmed, return_exceptions=True):
                    if outcome is not None:
                        raise outcome
        except asyncio.CancelledError as error:
            if is_cancellation(error):
                raise
            raise PublishUnknown("the publisher was closed") from error
        finally:
            if timer is not None:
                timer.cancel()

    async def publish_body(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        message_id: str,
        type_: str,
        headers: Mapping[str, str | int] | None = None,
        mandatory: bool = True,
    ) -> None:
        """Publish one body as it is and wait for its confirm.

        Raises PublishFailed; where it is `mandatory` and no queue is bound to take it, PublishUnroutable.
        """
        channel = self._channel
        if channel is None or channel.is_closed or not self._link.up.is_set():
            raise BrokerAway("no connection to RabbitMQ; is it running, and is AMQP_URL right?")
        message = aio_pika.Message(
            body,
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message_id,
            type=type_,
            app_id="palomar",
            headers=amqp_headers(headers),
        )
        try:
            async with asyncio.timeout(self._timeout), self._alone(message_id):
                await self._exchanges[exchange].publish(message, routing_key, mandatory=mandatory)
        except TimeoutError as error:
            raise PublishUnknown(f"not confirmed within {self._timeout} s") from error
        except aio_pika.exceptions.PublishError as error:  # the broker's basic.return
            raise PublishUnroutable(f"{exchange}/{routing_key} leads to no queue: {error}") from error
        except aio_pika.exceptions.DeliveryError as error:
            raise PublishRefused(f"{exchange}/{routing_key} was not taken: {error}") from error
        except (ValueError, TypeError, LookupError) as error:
            raise PublishRefused(f"{exchange}/{routing_key} can't be written: {error!r}") from error
        except (Exception, asyncio.CancelledError) as error:  # a lost connection raises nearly any exception
            if is_cancellation(error):
                raise
            raise PublishUnknown(f"connection lost: {type(error).__name__}") from error

    @asynccontextmanager
    async def _alone(self, message_id: str) -> AsyncIterator[None]:
        """Wait until no other publish of the same id is under way.

        aiormq matches a returned message to its publish by message_id; of two it would confirm one wrongly. For a
        message without an id it makes one up.
        """
        if not message_id:
            yield
            return
        while (other := self._under_way.get(message_id)) is not None:
            await other.wait()
        ended = self._under_way[message_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._under_way[message_id]
            ended.set()

    async def _opened(self, connection: AbstractConnection) -> None:
        for name in await topology.declare_missing(connection, self._delays):
            log.error(
                "queue exists with other arguments and is used as it is; to renew it, drain it, stop what uses it, "
                "delete it, start again",
                queue=name,
            )
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        steps = (step.name for step in topology.retry_schedule(self._delays))
        names = [topology.WORK, topology.DEAD_LETTERS, topology.EVENTS, *steps]
        self._exchanges = {name: await channel.get_exchange(name, ensure=False) for name in names}
        # Some errors of the broker close the channel and leave the connection open, on which no publish would succeed.
        channel.close_callbacks.add(lambda *_: self._link.drop(connection))
        self._channel = channel

    def _batch(self, job: Job) -> _PublishBatch:
        queue = job.queue
        key = (job.exchange, queue, job.type)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = _PublishBatch(job.exchange, queue, job.type, job.batch)
        return batch

    def _pump(self, batch: _PublishBatch) -> None:
        while batch.waiting and batch.in_flight < IN_FLIGHT:
            group = _next_group(batch)
            if not group:
                return
            batch.in_flight += 1
            task = asyncio.create_task(self._send(batch, group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: _PublishBatch, group: list[_Waiting]) -> None:
        body = envelope(batch.type, [one.body for one in group])
        for one in group:
            one.body = b""  # a mail with files is megabytes, which need not be in memory twice
        try:
            await self.publish_body(
                batch.exchange,
                batch.routing_key,
                body,
                message_id=group[0].key if len(group) == 1 else group_key([one.key for one in group]),
                type_=batch.type,
                mandatory=batch.exchange == topology.WORK,
            )
        except PublishFailed as error:
            metrics.PUBLISH_FAILED.labels(batch.routing_key, type(error).__name__).inc()
            for one in group:
                if not one.done.done():
                    one.done.set_exception(error)
        except asyncio.CancelledError:
            for one in group:
                one.done.cancel()
            raise
        else:
            metrics.PUBLISHED.labels(batch.routing_key if batch.exchange == topology.WORK else batch.exchange).inc(
                len(group)
            )
            metrics.ENVELOPE_JOBS.observe(len(group))
            for one in group:
                if not one.done.done():
                    one.done.set_result(None)
        finally:
            batch.in_flight -= 1
            self._pump(batch)


def _fail_unconfirmed(waiting: Sequence[asyncio.Future[None]], timeout: float) -> None:
    """Fail the publishes that are not confirmed after `timeout` seconds. Those that have not left are never sent."""
    for done in waiting:
        if not done.done():
            done.set_exception(PublishUnknown(f"not confirmed within {timeout} s"))


def _next_group(batch: _PublishBatch) -> list[_Waiting]:
    """The jobs of the next envelope: up to the class's limit and ENVELOPE_BYTES, without those cancelled meanwhile."""
    group: list[_Waiting] = []
    size = 0
    while batch.waiting and len(group) < batch.limit:
        one = batch.waiting[0]
        if group and size + len(one.body) > ENVELOPE_BYTES:
            break
        batch.waiting.popleft()
        if one.done.done():  # cancelled by its timeout; ingress may have spooled it
            continue
        group.append(one)
        size += len(one.body)
    return group
