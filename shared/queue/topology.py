"""Every exchange, queue, binding and retry step, as values, declared by one function.

A work queue `name` has a dead queue `name.dead`. What is to be tried again waits in `retry.<delay>` and comes back
through the `work` exchange by its original routing key. All queues are quorum queues and declare on RabbitMQ 3.10
and on 4.x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import aiormq
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared.domain.provider_names import names

Lane = Literal["normal", "bulk"]

WORK: Final = "work"  # direct: the routing key is the queue's name
DEAD: Final = "dead"  # direct: the routing key is the work queue's name
EVENTS: Final = "events"  # topic: the routing key is the event's name; nobody listening is fine

# Guards only against a message that kills its consumer. Clean restarts count too, and a small limit then buries
# healthy messages (seen on 3.10.8 with ten prefetched ones after four orderly restarts).
DELIVERY_LIMIT: Final = 200

# Of a dead queue, where whoever looks at an item takes it and gives it back, which counts. Without a limit of our own
# RabbitMQ 4.x takes 20 for it, and the twenty-first look would drop the item.
DEAD_DELIVERY_LIMIT: Final = 1_000_000_000

QueueArguments = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A queue that one worker consumes, or one lane of it."""

    name: str
    prefetch: int | None = None  # envelopes that one process holds; None: as many as its worker likes

    @property
    def dead(self) -> str:
        return f"{self.name}.dead"


@dataclass(frozen=True, slots=True)
class RetryStep:
    """One rung of the retry ladder: a queue with one fixed TTL, because per-message TTLs block behind the head."""

    delay: float  # seconds

    @property
    def name(self) -> str:
        seconds = self.delay
        if seconds >= 60 and seconds % 60 == 0:
            return f"retry.{seconds / 60:g}m"
        return f"retry.{seconds:g}s"


PERSIST: Final = WorkQueue("persist")
PERSIST_RECEIPTS: Final = WorkQueue("persist.receipts")
PERSIST_LARGE: Final = WorkQueue("persist.large", prefetch=1)  # mails with files: one at a time bounds the memory
REPLY: Final = WorkQueue("reply")
REPLY_LLM: Final = WorkQueue("reply.llm")  # of engines that wait for somebody else
WINDOW: Final = WorkQueue("window")
MEDIA: Final = WorkQueue("media")


def send_queue(provider: str, lane: str = "normal") -> WorkQueue:
    """Where one provider's sends wait; bulk has its own, so that replies never wait behind campaigns."""
    return WorkQueue(f"send.{provider}" if lane == "normal" else f"send.{provider}.{lane}")


LANES: Final[tuple[Lane, ...]] = ("normal", "bulk")
SEND: Final = tuple(send_queue(provider, lane) for provider in names() for lane in LANES)
QUEUES: Final[tuple[WorkQueue, ...]] = (
    PERSIST, PERSIST_RECEIPTS, PERSIST_LARGE, REPLY, REPLY_LLM, WINDOW, *SEND, MEDIA,
)  # fmt: skip


def ladder(delays: Sequence[float]) -> tuple[RetryStep, ...]:
    """The retry ladder of these delays in seconds, shortest first."""
    return tuple(RetryStep(delay) for delay in sorted(delays))


def _quorum(dead_letter_exchange: str, **more: str | int) -> QueueArguments:
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": dead_letter_exchange,
        # The default strategy loses messages when a node dies in between; at-least-once needs reject-publish.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        **more,
    }


def arguments(delays: Sequence[float]) -> Mapping[str, QueueArguments]:
    """Queue name → arguments, for all queues there are with this ladder."""
    declared: dict[str, QueueArguments] = {}
    for queue in QUEUES:
        declared[queue.name] = _quorum(DEAD, **{"x-delivery-limit": DELIVERY_LIMIT})
        declared[queue.dead] = {"x-queue-type": "quorum", "x-delivery-limit": DEAD_DELIVERY_LIMIT}
    for step in ladder(delays):
        # No dead-letter routing key: the original one survives and leads back to its queue.
        declared[step.name] = _quorum(WORK, **{"x-message-ttl": int(step.delay * 1000)})
    return declared


def _bound(delays: Sequence[float]) -> list[tuple[str, str, str]]:
    """(queue, exchange, routing key) of every binding."""
    return [
        *((queue.name, WORK, queue.name) for queue in QUEUES),
        *((queue.dead, DEAD, queue.name) for queue in QUEUES),
        *((step.name, step.name, "") for step in ladder(delays)),
    ]


async def declare(channel: AbstractChannel, delays: Sequence[float]) -> None:
    """Declare everything; idempotent. Raises aio_pika's ChannelPreconditionFailed where a queue exists otherwise."""
    await _declare_exchanges(channel, delays)
    every = arguments(delays)
    for name, exchange, key in _bound(delays):
        queue = await channel.declare_queue(name, durable=True, arguments=dict(every[name]))
        await queue.bind(exchange, key)


async def settle(connection: AbstractConnection, delays: Sequence[float]) -> list[str]:
    """Declare everything, and go on with what exists otherwise; returns the names of those queues.

    A release that changes a queue's arguments must not stop the one that runs: the old queue does its work until an
    operator replaces it.
    """
    every = arguments(delays)
    otherwise: list[str] = []
    channel = await connection.channel()
    await _declare_exchanges(channel, delays)
    for name, exchange, key in _bound(delays):
        try:
            queue = await channel.declare_queue(name, durable=True, arguments=dict(every[name]))
        except aiormq.ChannelPreconditionFailed:  # which closes the channel
            otherwise.append(name)
            channel = await connection.channel()
            queue = await channel.get_queue(name, ensure=False)
        await queue.bind(exchange, key)
    await channel.close()
    return otherwise


async def _declare_exchanges(channel: AbstractChannel, delays: Sequence[float]) -> None:
    await channel.declare_exchange(WORK, ExchangeType.DIRECT, durable=True)
    await channel.declare_exchange(DEAD, ExchangeType.DIRECT, durable=True)
    await channel.declare_exchange(EVENTS, ExchangeType.TOPIC, durable=True)
    for step in ladder(delays):
        await channel.declare_exchange(step.name, ExchangeType.FANOUT, durable=True)
