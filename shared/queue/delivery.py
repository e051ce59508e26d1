"""What comes from a queue: the delivery, the items in its envelope, and the headers of ours that it carries."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from shared.queue.connection import is_cancellation
from shared.queue.jobs import QueueMessage

M = TypeVar("M", bound=QueueMessage)

ATTEMPT: Final = "palomar-attempt"  # failed attempts so far
OVERTIME: Final = "palomar-overtime"  # tries that took too long, one after the other
REASON: Final = "palomar-reason"
TRACEBACK: Final = "palomar-traceback"
QUEUE: Final = "palomar-queue"
DIED_AT: Final = "palomar-died-at"

# Earlier deliveries from which on a message is suspected of killing its consumer: it came back twice.
SUSPECT_AT: Final = 2


class Delivery:
    """One AMQP message in hand, and how many of its items are open."""

    def __init__(self, incoming: AbstractIncomingMessage, channel: AbstractChannel) -> None:
        self.incoming = incoming
        self._channel = channel
        self._open = 0

    @property
    def alive(self) -> bool:
        """False once its channel is gone: the broker gives it to somebody else, so nothing more is done with it."""
        return not self._channel.is_closed

    @property
    def earlier(self) -> int:
        """How often it was given out before and came back: its consumer died, or stopped in order."""
        return self._number("x-delivery-count")

    @property
    def suspect(self) -> bool:
        return self.earlier >= SUSPECT_AT

    @property
    def attempt(self) -> int:
        """Failed attempts so far."""
        return self._number(ATTEMPT)

    @property
    def overtime(self) -> int:
        """Tries that took too long, one after the other."""
        return self._number(OVERTIME)

    def _number(self, header: str) -> int:
        count = self.incoming.headers.get(header, 0)
        return count if isinstance(count, int) else 0

    def opened(self, items: int) -> None:
        self._open = items

    def release(self) -> None:
        """Its items are taken out: they may be megabytes, which need not be there twice while they are handled."""
        self.incoming.body = b""  # type: ignore[misc]  # an attribute all the same

    async def settled(self) -> None:
        """One item is finished; the last one acks."""
        self._open -= 1
        if self._open <= 0:
            await self.ack()

    async def ack(self) -> None:
        # On a channel that is gone this raises nearly anything; redelivery and the claim in the row handle it.
        try:
            with contextlib.suppress(Exception):
                await self.incoming.ack()
        except asyncio.CancelledError as error:
            if is_cancellation(error):
                raise


@dataclass(slots=True)
class Item(Generic[M]):
    """One message of an envelope on its way through a handler."""

    message: M
    delivery: Delivery
    outages: int = 0  # in a row, met by this item
    trial: bool = False  # handled though its tenant's channel is set apart

    @property
    def attempt(self) -> int:
        """Failed attempts so far."""
        return self.delivery.attempt
