"""Keeps a connection to RabbitMQ open: connects, and connects again after every loss.

aio-pika's plain connections with a loop of our own instead of its robust ones: after a loss every channel, consumer and
unconfirmed publish is gone for certain, and the publisher and the runner decide what to do about each.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aio_pika
import aiormq
from aio_pika.abc import AbstractConnection

from shared.process.log import get_logger
from shared.process.outage_log import OutageLog

log = get_logger(__name__)

HEARTBEAT = 10  # seconds; a vanished peer is noticed after 3 × (heartbeat + 1) s: 183 s by aio-pika's default
RECONNECT_DELAYS = (0.1, 0.3, 1.0, 2.0)  # seconds; the last one repeats
OPENING = 30.0  # seconds that `on_open` may take; then we connect anew


class PublishFailed(Exception):
    """The broker has not confirmed a publish. The caller still has to publish it."""


class BrokerAway(PublishFailed):
    """There is no connection: nothing was sent."""


class AccessRefused(BrokerAway):
    """RabbitMQ refuses the user or the password."""


class PublishUnknown(PublishFailed):
    """The publish timed out or its connection was lost: it may have arrived, or may still arrive."""


class PublishRefused(PublishFailed):
    """The broker refused the publish: it is unroutable, or the queue rejected it."""


class PublishUnroutable(PublishRefused):
    """The broker returned the publish: no queue is bound to its exchange with this routing key."""


class Link:
    """One connection to the broker, made again whenever it is lost.

    `on_open` runs on every new connection before `up` is set. While the broker is away, the link waits and raises
    nothing.
    """

    def __init__(
        self, url: str, name: str, on_open: Callable[[AbstractConnection], Awaitable[None]] | None = None
    ) -> None:
        self._url = url
        self._name = name
        self._on_open = on_open
        self._closing = asyncio.Event()
        self._lost = asyncio.Event()
        self._failures = 0
        self._outage = OutageLog()
        self._task: asyncio.Task[None] | None = None
        self.up = asyncio.Event()
        self.connection: AbstractConnection | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"link {self._name}")

    def drop(self, connection: AbstractConnection) -> None:
        """Replace this connection, on which something is broken, unless it was replaced already."""
        if connection is self.connection:
            self._lost.set()

    async def close(self) -> None:
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                await self._once()
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                delay = RECONNECT_DELAYS[min(self._failures, len(RECONNECT_DELAYS) - 1)]
                if (lasted := self._outage.failed()) is not None:
                    log.warning(
                        "broker away", link=self._name, error=f"{type(error).__name__}: {error}", away_for=lasted
                    )
                self._failures += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._closing.wait()

    async def _once(self) -> None:
        """Connect, and wait until the connection is lost or the link is closed. Raises what connecting raised."""
        self._lost = lost = asyncio.Event()
        connection = await aio_pika.connect(
            self._url, timeout=5, heartbeat=HEARTBEAT, client_properties={"connection_name": self._name}
        )
        closing = asyncio.create_task(self._closing.wait())
        losing = asyncio.create_task(lost.wait())
        try:
            connection.close_callbacks.add(lambda *_: lost.set())
            self.connection = connection
            if self._on_open is not None:
                async with asyncio.timeout(OPENING):
                    await self._on_open(connection)
            self.up.set()
            self._failures = 0
            log.info("broker connected", link=self._name, away_for=self._outage.ended() or 0.0)
            await asyncio.wait({closing, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not self._closing.is_set():
                raise ConnectionResetError("connection lost")
        finally:
            self.up.clear()
            closing.cancel()
            losing.cancel()
            with suppress(Exception):
                async with asyncio.timeout(5):
                    await connection.close()


def is_cancellation(error: BaseException) -> bool:
    """Whether this error is a real cancellation of this task.

    aiormq also raises CancelledError in callers whose connection it closes. That is only a lost connection.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection for one command session. Raises AccessRefused, or BrokerAway, with the remedy."""
    try:
        connection = await aio_pika.connect(
            url, timeout=5, heartbeat=HEARTBEAT, client_properties={"connection_name": name}
        )
    except (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError) as error:
        raise AccessRefused("RabbitMQ refuses the user or the password; is AMQP_URL right?") from error
    except (OSError, TimeoutError, aiormq.AMQPError) as error:
        raise BrokerAway("can't reach RabbitMQ; is `./palomar up` running, and is AMQP_URL right?") from error
    async with connection:
        yield connection
