"""One message from RabbitMQ while its jobs are handled: how often it came, which of its jobs are open, and its ack."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from shared.queue.connection import is_cancellation
from shared.queue.jobs import Job

J = TypeVar("J", bound=Job)

# The headers that we write.
ATTEMPT: Final = "palomar-attempt"  # failed attempts so far
OVERTIME: Final = "palomar-overtime"  # attempts in a row that took too long
REASON: Final = "palomar-reason"
TRACEBACK: Final = "palomar-traceback"
QUEUE: Final = "palomar-queue"
DEAD_LETTERED_AT: Final = "palomar-died-at"

# Earlier deliveries from which on a message is suspected of killing its consumer: it came back twice.
SUSPECT_AT: Final = 2


class Delivery:
    """One AMQP message that the broker has given to this process, and how many of its jobs are open."""

    def __init__(self, incoming: AbstractIncomingMessage, channel: AbstractChannel) -> None:
        self.incoming = incoming
        self._channel = channel
        self._open = 0
        self.type = incoming.type or ""  # of its jobs; as its sender says, until it is read

    @property
    def alive(self) -> bool:
        """False once its channel is closed: the broker delivers it again, so nothing more is done with it here."""
        return not self._channel.is_closed

    @property
    def earlier_deliveries(self) -> int:
        """How often it was delivered before and came back, because its consumer was killed or stopped in order."""
        return self._number("x-delivery-count")

    @property
    def suspect(self) -> bool:
        """Whether it may be what kills its consumers."""
        return self.earlier_deliveries >= SUSPECT_AT

    @property
    def attempt(self) -> int:
        """Failed attempts so far."""
        return self._number(ATTEMPT)

    @property
    def overtime(self) -> int:
        """Attempts in a row that took too long."""
        return self._number(OVERTIME)

    def _number(self, header: str) -> int:
        count = self.incoming.headers.get(header, 0)
        return count if isinstance(count, int) else 0

    def opened(self, jobs: int) -> None:
        """It holds so many jobs, all of them open."""
        self._open = jobs

    def read(self, type_: str) -> None:
        """Its jobs are decoded, and have this type. The body is freed: the jobs may be megabytes, which need not be in
        memory twice."""
        self.type = type_
        self.incoming.body = b""  # type: ignore[misc]  # an attribute all the same

    async def settled(self) -> None:
        """One of its jobs is finished. The last one acks the message."""
        self._open -= 1
        if self._open <= 0:
            await self.ack()

    async def ack(self) -> None:
        # On a closed channel this raises nearly anything. The broker then delivers the message again, and the claim in
        # the job's row keeps its work from being done twice.
        try:
            with contextlib.suppress(Exception):
                await self.incoming.ack()
        except asyncio.CancelledError as error:
            if is_cancellation(error):
                raise


@dataclass(slots=True)
class JobRun(Generic[J]):
    """One job of an envelope on its way through a handler."""

    job: J
    delivery: Delivery
    outages: int = 0  # in a row, met by this job
    trial: bool = False  # handled although the circuit breaker of its tenant's channel is open

    @property
    def attempt(self) -> int:
        """Failed attempts so far."""
        return self.delivery.attempt
