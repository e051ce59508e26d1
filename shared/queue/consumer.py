"""Consumes one queue, and starts again on a new connection after every loss.

When a process is killed, all its unacked messages come back with one delivery more, and the broker can't tell which of
them killed it. So each channel starts with prefetch 1, and keeps it while the messages that come are suspect: they have
come back twice. If the process is killed again, the one message that it held is to blame. The first message that is not
suspect opens the full prefetch.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

from shared.process.log import get_logger
from shared.queue import topology
from shared.queue.connection import Link, is_cancellation
from shared.queue.delivery import Delivery

log = get_logger(__name__)

PAUSE = 0.2  # seconds between two attempts to consume


class Consumer:
    """Passes every delivery of a queue to `take`, which must not wait. `run` it as a task, then `cancel` and `close`.

    `before` is awaited before each start, `redeclare` when the queue does not exist.
    """

    def __init__(
        self,
        queue: topology.WorkQueue,
        prefetch: int,
        take: Callable[[Delivery], None],
        *,
        before: Callable[[], Awaitable[None]],
        redeclare: Callable[[AbstractConnection], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._take = take
        self._before = before
        self._redeclare = redeclare
        self._stopping = False
        self._channel: AbstractChannel | None = None
        self._tag = ""

    @property
    def consuming(self) -> bool:
        return self._channel is not None and not self._channel.is_closed

    async def run(self, link: Link) -> None:
        """Consume until `cancel`. While the broker is away, it waits and raises nothing."""
        while not self._stopping:
            await link.up.wait()
            await self._before()
            connection = link.connection
            try:
                if connection is not None and not connection.is_closed:
                    await self._consume_on(connection)
            except aiormq.ChannelNotFoundEntity:
                log.error("queue does not exist; declaring it again", queue=self._queue.name)
                if connection is not None:
                    with contextlib.suppress(Exception):
                        await self._redeclare(connection)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                log.warning("consumer lost", queue=self._queue.name, error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(PAUSE)

    async def _consume_on(self, connection: AbstractConnection) -> None:
        """Consume on a new channel; returns when the channel is closed or the broker has cancelled the consumer."""
        channel = await connection.channel()
        ended, unsuspected = asyncio.Event(), asyncio.Event()
        channel.close_callbacks.add(lambda *_: ended.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: ended.set())
        queue = await channel.get_queue(self._queue.name, ensure=False)

        async def taken(incoming: AbstractIncomingMessage) -> None:
            # Only pass it on: a lost connection cancels this callback at any point.
            delivery = Delivery(incoming, channel)
            if not delivery.suspect:
                unsuspected.set()
            self._take(delivery)

        self._channel = channel
        try:
            await self._start(channel, queue, taken, prefetch=1)
            # With a prefetch of 1 in any case, a second consumer would get a message beside the one that is unacked.
            if self._prefetch > 1 and await _first(unsuspected, ended) is unsuspected and not self._stopping:
                await queue.cancel(self._tag)
                await self._start(channel, queue, taken, prefetch=self._prefetch)
            await ended.wait()
        finally:
            if not self._stopping and not channel.is_closed:
                with contextlib.suppress(Exception):
                    await channel.close()

    async def _start(
        self,
        channel: AbstractChannel,
        queue: AbstractQueue,
        taken: Callable[[AbstractIncomingMessage], Awaitable[None]],
        *,
        prefetch: int,
    ) -> None:
        await channel.set_qos(prefetch_count=prefetch)
        if not self._stopping:
            self._tag = await queue.consume(taken)

    async def cancel(self) -> None:
        """Take no more deliveries. Those taken stay ours until they are acked, or until `close`."""
        self._stopping = True
        if self._channel is not None and self._tag and self.consuming:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await (await self._channel.get_underlay_channel()).basic_cancel(self._tag)

    async def close(self) -> None:
        """Close the channel: the broker takes back every delivery that is not acked."""
        if self._channel is not None and self.consuming:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await self._channel.close()


async def _first(*events: asyncio.Event) -> asyncio.Event:
    """Wait until one of these events is set, and return it."""
    waits = {asyncio.create_task(event.wait()): event for event in events}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return waits[done.pop()]
