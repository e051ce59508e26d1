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
from shared.queue.connection import BrokerAway, Link, PublishFailed, PublishRefused, PublishUnknown, is_cancellation
from shared.queue.envelope import amqp_headers, dump, envelope, group_key
from shared.queue.jobs import QueueMessage

log = get_logger(__name__)

ENVELOPE_BYTES = 256 * 1024  # an envelope takes no further item beyond this
IN_FLIGHT = 2  # publishes under way per lane; what comes meanwhile shares the next one


@dataclass(slots=True)
class _Waiting:
    body: bytes
    key: str
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Lane:
    """Items of one type on their way to one routing key."""

    exchange: str
    routing_key: str
    type: str
    batch: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    in_flight: int = 0


class Publisher:
    """Publishes with confirms, grouping what is ready together.

    While IN_FLIGHT publishes of a lane are under way, items that arrive wait for the next one and share its confirm;
    a lone item leaves at once, so grouping adds no wait.
    """

    def __init__(self, url: str, name: str, *, timeout: float, delays: Sequence[float] = (1, 5, 30, 120, 600)) -> None:
        self._link = Link(url, f"{name} publish", self._opened)
        self._timeout = timeout
        self._delays = delays
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, aio_pika.abc.AbstractExchange] = {}
        self._lanes: dict[tuple[str, str, str], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, asyncio.Event] = {}  # message_id → its publish has ended

    async def start(self) -> None:
        """Begin connecting. Does not wait for the broker: `ready` tells, `wait_ready` waits."""
        self._link.start()

    async def close(self) -> None:
        """Let what is under way and what waits behind it finish, for one publish's patience; then close."""
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
        """Envelopes that wait in a queue for a consumer. Raises BrokerAway where nobody can be asked."""
        channel = self._channel
        if channel is None or not self.ready:
            raise BrokerAway("no connection to RabbitMQ")
        try:
            async with asyncio.timeout(self._timeout):
                declared = await channel.declare_queue(queue, passive=True)
        except (aiormq.AMQPError, OSError, RuntimeError, TimeoutError) as error:
            raise BrokerAway(f"{queue} can't be looked at: {type(error).__name__}") from error
        return declared.declaration_result.message_count or 0

    async def publish(self, *messages: QueueMessage, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Publish and wait until the broker has confirmed all of them.

        `timeout` is seconds for the whole; an item whose turn has not come by then is taken back and never sent.
        Raises PublishFailed (BrokerAway, PublishUnknown, PublishRefused).
        """
        if not messages:
            return
        loop = asyncio.get_running_loop()
        # All of them are written out before the first one joins a lane: one that can't be leaves nothing behind.
        waiting = [(self._lane(m), _Waiting(dump(m), m.key, loop.create_future())) for m in messages]
        for lane, item in waiting:
            lane.waiting.append(item)
        for lane in {id(lane): lane for lane, _ in waiting}.values():
            self._pump(lane)
        confirmed = [item.done for _, item in waiting]
        # Not asyncio.timeout: with that and a gather for one item, waiting would cost ingress more than publishing.
        patience = None if timeout is None else loop.call_later(timeout, _take_back, confirmed, timeout)
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
            if patience is not None:
                patience.cancel()

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
        """Publish one ready-made body, confirmed. Raises PublishFailed."""
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
        except (aio_pika.exceptions.PublishError, aio_pika.exceptions.DeliveryError) as error:
            raise PublishRefused(f"{exchange}/{routing_key} was not taken: {error}") from error
        except (ValueError, TypeError, LookupError) as error:
            raise PublishRefused(f"{exchange}/{routing_key} can't be written: {error!r}") from error
        except (Exception, asyncio.CancelledError) as error:  # a lost connection raises nearly anything, Exception too
            if is_cancellation(error):
                raise
            raise PublishUnknown(f"connection lost: {type(error).__name__}") from error

    @asynccontextmanager
    async def _alone(self, message_id: str) -> AsyncIterator[None]:
        """Wait for a publish of the same id to end.

        aiormq finds by message_id which publish a returned message belongs to; of two it would confirm one wrongly.
        Without an id it makes one up.
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
        for name in await topology.settle(connection, self._delays):
            log.error(
                "queue exists with other arguments and is used as it is; to renew it, drain it, stop what uses it, "
                "delete it, start again",
                queue=name,
            )
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        names = [topology.WORK, topology.DEAD, topology.EVENTS, *(step.name for step in topology.ladder(self._delays))]
        self._exchanges = {name: await channel.get_exchange(name, ensure=False) for name in names}
        # Some errors of the broker close the channel and leave the connection: nothing could be published any more.
        channel.close_callbacks.add(lambda *_: self._link.drop(connection))
        self._channel = channel

    def _lane(self, message: QueueMessage) -> _Lane:
        queue = message.queue
        key = (message.exchange, queue, message.type)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(message.exchange, queue, message.type, message.batch)
        return lane

    def _pump(self, lane: _Lane) -> None:
        while lane.waiting and lane.in_flight < IN_FLIGHT:
            group = _take(lane)
            if not group:
                return
            lane.in_flight += 1
            task = asyncio.create_task(self._send(lane, group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, lane: _Lane, group: list[_Waiting]) -> None:
        body = envelope(lane.type, [item.body for item in group])
        for item in group:
            item.body = b""  # a mail's files are megabytes, and nobody asks for them again
        try:
            await self.publish_body(
                lane.exchange,
                lane.routing_key,
                body,
                message_id=group[0].key if len(group) == 1 else group_key([item.key for item in group]),
                type_=lane.type,
                mandatory=lane.exchange == topology.WORK,
            )
        except PublishFailed as error:
            metrics.PUBLISH_FAILED.labels(lane.routing_key, type(error).__name__).inc()
            for item in group:
                if not item.done.done():
                    item.done.set_exception(error)
        except asyncio.CancelledError:
            for item in group:
                item.done.cancel()
            raise
        else:
            metrics.PUBLISHED.labels(lane.routing_key if lane.exchange == topology.WORK else lane.exchange).inc(
                len(group)
            )
            metrics.ENVELOPE_ITEMS.observe(len(group))
            for item in group:
                if not item.done.done():
                    item.done.set_result(None)
        finally:
            lane.in_flight -= 1
            self._pump(lane)


def _take_back(waiting: Sequence[asyncio.Future[None]], timeout: float) -> None:
    """The patience of whoever waits for these has ended."""
    for done in waiting:
        if not done.done():
            done.set_exception(PublishUnknown(f"not confirmed within {timeout} s"))


def _take(lane: _Lane) -> list[_Waiting]:
    """The next envelope's items: up to the class's bound and ENVELOPE_BYTES, without those given up meanwhile."""
    group: list[_Waiting] = []
    size = 0
    while lane.waiting and len(group) < lane.batch:
        item = lane.waiting[0]
        if group and size + len(item.body) > ENVELOPE_BYTES:
            break
        lane.waiting.popleft()
        if item.done.done():  # its publisher's patience ended; it may be spooled by now
            continue
        group.append(item)
        size += len(item.body)
    return group
