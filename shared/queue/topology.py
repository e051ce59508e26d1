"""Defines every exchange, queue, binding and retry step of RabbitMQ, and declares them.

A work queue `name` has a dead-letter queue `name.dead`. A job that is to be tried again waits in `retry.<delay>` and
comes back through the `work` exchange by its original routing key. All queues are quorum queues, which RabbitMQ 3.10
and 4.x declare alike.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import aiormq
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared.domain.provider_names import names

Lane = Literal["normal", "bulk"]

WORK: Final = "work"  # direct: the routing key is the queue's name
DEAD_LETTERS: Final = "dead"  # direct: the routing key is the work queue's name
EVENTS: Final = "events"  # topic: the routing key is the event's name; an event without a subscriber is dropped

# Guards only against a message that kills its consumer. Deliveries that come back from an orderly restart count too, so
# that a small limit dead-letters healthy messages (seen on 3.10.8 with ten prefetched ones after four restarts).
DELIVERY_LIMIT: Final = 200

# Of a dead-letter queue. `palomar dead show` takes each message and returns it, which counts as a delivery. Without a
# limit of our own RabbitMQ 4.x applies one of 20, and the twenty-first look would drop the message.
DEAD_LETTER_DELIVERY_LIMIT: Final = 1_000_000_000

# Queues are declared over so many AMQP channels at once: it takes a hundred round trips, and all processes come back to
# a broker that has just started.
AMQP_CHANNELS: Final = 8

QueueArguments = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A queue that one worker consumes. A worker may have several, which run independently."""

    name: str
    prefetch: int | None = None  # unacked envelopes of one process; None: as the worker's kind of handler needs

    @property
    def dead_letters(self) -> str:
        """The name of its dead-letter queue."""
        return f"{self.name}.dead"


@dataclass(frozen=True, slots=True)
class RetryStep:
    """One step of the retry schedule: a queue with one fixed TTL.

    A TTL of each message's own would not do: RabbitMQ expires messages only at the head of a queue.
    """

    delay: float  # seconds

    @property
    def name(self) -> str:
        seconds = self.delay
        if seconds >= 60 and seconds % 60 == 0:
            return f"retry.{seconds / 60:g}m"
        return f"retry.{seconds:g}s"


PERSIST: Final = WorkQueue("persist")
PERSIST_RECEIPTS: Final = WorkQueue("persist.receipts")
PERSIST_LARGE: Final = WorkQueue("persist.large", prefetch=1)  # mails with files; one at a time bounds the memory
REPLY: Final = WorkQueue("reply")
REPLY_LLM: Final = WorkQueue("reply.llm")  # replies whose engine waits for an outside service
WINDOW: Final = WorkQueue("window")
MEDIA: Final = WorkQueue("media")
CAMPAIGN: Final = WorkQueue("campaign")
WEBHOOK: Final = WorkQueue("webhook")


def send_queue(provider: str, lane: str = "normal") -> WorkQueue:
    """The queue of one provider's sends. Bulk has a queue of its own, so that replies never wait behind campaigns."""
    return WorkQueue(f"send.{provider}" if lane == "normal" else f"send.{provider}.{lane}")


LANES: Final[tuple[Lane, ...]] = ("normal", "bulk")
SEND: Final = tuple(send_queue(provider, lane) for provider in names() for lane in LANES)
QUEUES: Final[tuple[WorkQueue, ...]] = (
    PERSIST, PERSIST_RECEIPTS, PERSIST_LARGE, REPLY, REPLY_LLM, WINDOW, *SEND, MEDIA, CAMPAIGN, WEBHOOK,
)  # fmt: skip


def retry_schedule(delays: Sequence[float]) -> tuple[RetryStep, ...]:
    """The retry steps of these delays in seconds, shortest first."""
    return tuple(RetryStep(delay) for delay in sorted(delays))


def _quorum(dead_letter_exchange: str, **more: str | int) -> QueueArguments:
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": dead_letter_exchange,
        # The default strategy loses messages if a node fails while they move; at-least-once needs reject-publish.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        **more,
    }


def arguments(delays: Sequence[float]) -> Mapping[str, QueueArguments]:
    """Queue name → arguments, of all queues that there are with this retry schedule."""
    declared: dict[str, QueueArguments] = {}
    for queue in QUEUES:
        declared[queue.name] = _quorum(DEAD_LETTERS, **{"x-delivery-limit": DELIVERY_LIMIT})
        declared[queue.dead_letters] = {"x-queue-type": "quorum", "x-delivery-limit": DEAD_LETTER_DELIVERY_LIMIT}
    for step in retry_schedule(delays):
        # Without a dead-letter routing key a message keeps its own, which leads back to its queue.
        declared[step.name] = _quorum(WORK, **{"x-message-ttl": int(step.delay * 1000)})
    return declared


def bound(delays: Sequence[float]) -> list[tuple[str, str, str]]:
    """(queue, exchange, routing key) of every binding."""
    return [
        *((queue.name, WORK, queue.name) for queue in QUEUES),
        *((queue.dead_letters, DEAD_LETTERS, queue.name) for queue in QUEUES),
        *((step.name, step.name, "") for step in retry_schedule(delays)),
    ]


async def declare_missing(connection: AbstractConnection, delays: Sequence[float]) -> list[str]:
    """Declare everything that is missing; idempotent. Returns the names of queues that exist with other arguments.

    Those are used as they are. A release that changes a queue's arguments must not stop the system that runs: the old
    queue does its work until an operator replaces it.
    """
    channel = await connection.channel()
    await _declare_exchanges(channel, delays)
    await channel.close()
    wanted = bound(delays)
    parts = [wanted[first::AMQP_CHANNELS] for first in range(AMQP_CHANNELS)]
    found = await asyncio.gather(*(_declare_queues(connection, part, delays) for part in parts))
    return [name for different in found for name in different]


async def _declare_queues(
    connection: AbstractConnection, wanted: Sequence[tuple[str, str, str]], delays: Sequence[float]
) -> list[str]:
    every = arguments(delays)
    different: list[str] = []
    channel = await connection.channel()
    for name, exchange, key in wanted:
        try:
            queue = await channel.declare_queue(name, durable=True, arguments=dict(every[name]))
        except aiormq.ChannelPreconditionFailed:  # which closes the channel
            different.append(name)
            channel = await connection.channel()
            queue = await channel.get_queue(name, ensure=False)
        await queue.bind(exchange, key)
    await channel.close()
    return different


async def _declare_exchanges(channel: AbstractChannel, delays: Sequence[float]) -> None:
    await channel.declare_exchange(WORK, ExchangeType.DIRECT, durable=True)
    await channel.declare_exchange(DEAD_LETTERS, ExchangeType.DIRECT, durable=True)
    await channel.declare_exchange(EVENTS, ExchangeType.TOPIC, durable=True)
    for step in retry_schedule(delays):
        await channel.declare_exchange(step.name, ExchangeType.FANOUT, durable=True)
