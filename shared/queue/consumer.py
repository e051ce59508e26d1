"""Consumes one queue on whatever connection there is, again after every loss.

Nobody can tell which of the messages in hand a consumer died on: all of them come back with one delivery more. So each
channel begins with one message at a time, and goes on so while what comes is suspected of killing its consumer; who
dies again died on that one. The first message above suspicion opens the full prefetch.
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
    """Hands every delivery of a queue to `take`, which must not wait. `run` it as a task, then `cancel` and `close`.

    `before` is awaited before each start; `redeclare` when the queue is gone.
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
        """Consume until `cancel`. The broker's absence is never an error."""
        while not self._stopping:
            await link.up.wait()
            await self._before()
            connection = link.connection
            try:
                if connection is not None and not connection.is_closed:
                    await self._consume_on(connection)
            except aiormq.ChannelNotFoundEntity:
                log.error("queue is gone; declaring it again", queue=self._queue.name)
                if connection is not None:
                    with contextlib.suppress(Exception):
                        await self._redeclare(connection)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                log.warning("consumer lost", queue=self._queue.name, error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(PAUSE)

    async def _consume_on(self, connection: AbstractConnection) -> None:
        """Open a channel, consume, return when the channel is closed or the broker ended the consumer."""
        channel = await connection.channel()
        ended, unsuspected = asyncio.Event(), asyncio.Event()
        channel.close_callbacks.add(lambda *_: ended.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: ended.set())
        queue = await channel.get_queue(self._queue.name, ensure=False)

        async def taken(incoming: AbstractIncomingMessage) -> None:
            # Only hand it over: a lost connection cancels this callback in the middle of whatever it does.
            delivery = Delivery(incoming, channel)
            if not delivery.suspect:
                unsuspected.set()
            self._take(delivery)

        self._channel = channel
        try:
            await self._start(channel, queue, taken, prefetch=1)
            # Who holds one at most begins no second time: the broker would give it another one beside what it holds.
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
        """Take no more. What was taken stays ours until it is acked or `close`."""
        self._stopping = True
        if self._channel is not None and self._tag and self.consuming:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await (await self._channel.get_underlay_channel()).basic_cancel(self._tag)

    async def close(self) -> None:
        """Give back what was taken and not acked."""
        if self._channel is not None and self.consuming:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await self._channel.close()


async def _first(*events: asyncio.Event) -> asyncio.Event:
    """The one of these events that is set first."""
    waits = {asyncio.create_task(event.wait()): event for event in events}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return waits[done.pop()]
