"""Reads the dead-letter queues, and puts dead letters back to work or throws them away.

A message that is taken from a queue stays unacked until that is done. If the process is killed before, the broker puts
the message back.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import aiormq
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from shared.database import Connection
from shared.queue import topology
from shared.queue.connection import connected
from shared.queue.dead_item import DeadItem, item_id
from shared.queue.envelope import Undecodable, decode
from shared.queue.jobs import Job, MediaWanted, ReplyWanted, SendReady, SendRequested, UnknownDue
from shared.queue.publisher import Publisher
from shared.queue.topology import WorkQueue
from shared.settings import Settings
from shared.store.messages import parked

SHORT_ID = 8  # characters of an id that name a dead letter, if only one begins so
LOOKED_AT = 500  # dead letters that a summary reads
WITH_ROWS: Final[tuple[type[Job], ...]] = (ReplyWanted, SendRequested, SendReady, UnknownDue, MediaWanted)

Reason = Literal["no_such_queue", "not_declared", "unknown_id", "ambiguous_id"]


class Refused(Exception):
    """What was asked for is not there, or not clear; nothing was touched. `detail` is a sentence."""

    def __init__(self, reason: Reason, queue: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.queue = queue  # the name of the work queue
        self.detail = detail


def work_queue(name: str) -> WorkQueue:
    """`persist` or `persist.dead` → the work queue. Raises Refused."""
    for queue in topology.QUEUES:
        if name in (queue.name, queue.dead_letters):
            return queue
    raise Refused("no_such_queue", name, f"There is no queue {name!r}.")


class DeadLetterQueue:
    """A dead-letter queue that is open for reading; `waiting` is how many messages it held when it was opened."""

    def __init__(self, queue: AbstractQueue, waiting: int) -> None:
        self._queue = queue
        self.waiting = waiting

    async def take(self, limit: int | None = None) -> AsyncIterator[AbstractIncomingMessage]:
        """Take messages one by one, oldest first: those that were there at the start, up to `limit`."""
        for _ in range(min(self.waiting, limit) if limit is not None else self.waiting):
            message = await self._queue.get(no_ack=False, fail=False)
            if message is None:
                return
            yield message


@asynccontextmanager
async def opened(settings: Settings, queue: WorkQueue) -> AsyncIterator[DeadLetterQueue]:
    """Open the dead-letter queue of a work queue. Raises Refused where it is missing, BrokerAway without a broker."""
    async with connected(settings.amqp_url.get_secret_value(), "palomar dead") as connection:
        # One of its own: a connection that is blocked from publishing does not get acks through either.
        channel = await connection.channel()
        try:
            dead = await channel.declare_queue(queue.dead_letters, passive=True)
        except aiormq.ChannelNotFoundEntity:
            raise Refused("not_declared", queue.name, f"RabbitMQ has no queue {queue.dead_letters}.") from None
        try:
            yield DeadLetterQueue(dead, dead.declaration_result.message_count or 0)
        finally:
            await channel.close()


@dataclass(frozen=True, slots=True)
class Summary:
    """One dead-letter queue. Oldest and reason are of the first LOOKED_AT messages."""

    queue: WorkQueue
    count: int
    oldest: datetime | None
    reason: str
    alike: int  # messages with that reason


async def summary(settings: Settings, queue: WorkQueue) -> Summary:
    """Summarise one dead-letter queue. Raises as `opened`."""
    reasons: Counter[str] = Counter()
    oldest: datetime | None = None
    async with opened(settings, queue) as dead_queue:
        async for message in dead_queue.take(LOOKED_AT):
            item = DeadItem.read(message)
            reasons[item.reason] += 1
            oldest = min((at for at in (oldest, item.dead_lettered_at) if at), default=None)
    reason, alike = reasons.most_common(1)[0] if reasons else ("", 0)
    return Summary(queue, dead_queue.waiting, oldest, reason, alike)


async def look(settings: Settings, queue: WorkQueue, limit: int) -> tuple[int, list[DeadItem]]:
    """The number of messages in a dead-letter queue, and the first of them. Raises as `opened`."""
    async with opened(settings, queue) as dead_queue:
        return dead_queue.waiting, [DeadItem.read(message) async for message in dead_queue.take(limit)]


Begin = Callable[[], AbstractAsyncContextManager[Connection]]  # a transaction
Deal = Callable[[AbstractIncomingMessage], Awaitable[None]]
Tell = Callable[[int, int], None]  # (done, of all)


def put_back(publisher: Publisher, queue: WorkQueue) -> Deal:
    """Publish a message to its work queue, confirmed, as if it were new: without attempts and the broker's headers."""

    async def deal(message: AbstractIncomingMessage) -> None:
        await publisher.publish_body(
            topology.WORK, queue.name, message.body, message_id=message.message_id or "", type_=message.type or ""
        )

    return deal


async def throw_away(message: AbstractIncomingMessage) -> None:
    """Do nothing before the ack: a job without a row leaves nothing to abandon."""


def give_up(begin: Begin) -> Deal:
    """Abandon the rows that are parked until this dead letter is replayed, in a transaction that commits before the
    letter is removed."""

    async def deal(message: AbstractIncomingMessage) -> None:
        async with begin() as connection:
            await _abandon(connection, message)

    return deal


async def _abandon(connection: Connection, message: AbstractIncomingMessage) -> None:
    with suppress(Undecodable):
        await parked.abandon(connection, decode(message.body, WITH_ROWS).valid)


async def replay(settings: Settings, queue: WorkQueue, ids: Sequence[str]) -> int:
    """Put dead letters back, with a publisher of its own. Raises as `settle`, and BrokerAway or PublishFailed."""
    publisher = Publisher(
        settings.amqp_url.get_secret_value(), "palomar replay", timeout=settings.publish_timeout,
        delays=settings.retry_delays,
    )  # fmt: skip
    await publisher.start()
    try:
        await publisher.wait_ready()
        return await settle(settings, queue, ids, put_back(publisher, queue))
    finally:
        await publisher.close()


def no_one(_: int, __: int) -> None:
    """Tell no one how far it is."""


async def settle(
    settings: Settings,
    queue: WorkQueue,
    ids: Sequence[str] | None,
    deal: Deal,
    tell: Tell = no_one,
) -> int:
    """Deal with the dead letters of these ids (None: all that are there now), and remove each after that.

    Returns how many. Raises Refused for an id that none or several begin with, before anything is touched.
    """
    done = 0
    async with opened(settings, queue) as dead_queue:
        if ids is None:
            async for message in dead_queue.take():
                await _remove(message, deal)
                done += 1
                tell(done, dead_queue.waiting)
        else:
            chosen = await _chosen(dead_queue, queue, ids)
            for message in chosen:
                await _remove(message, deal)
                done += 1
                tell(done, len(chosen))
    return done


async def _remove(message: AbstractIncomingMessage, deal: Deal) -> None:
    await deal(message)
    await message.ack()


async def _chosen(dead_queue: DeadLetterQueue, queue: WorkQueue, ids: Sequence[str]) -> list[AbstractIncomingMessage]:
    """The messages that these ids, or beginnings of ids, mean. Reads no further than it must: a queue may be long."""
    found: dict[str, list[AbstractIncomingMessage]] = {}
    matches: dict[str, set[str]] = {wanted: set() for wanted in ids}
    async for message in dead_queue.take():
        name = item_id(message)
        for wanted in ids:
            if name == wanted or (len(wanted) >= SHORT_ID and name.startswith(wanted)):
                matches[wanted].add(name)
        if any(name in names for names in matches.values()):
            found.setdefault(name, []).append(message)
        if all(wanted in names for wanted, names in matches.items()):  # whole ids: none of them is ambiguous
            break
    for wanted, names in matches.items():
        if not names:
            raise Refused("unknown_id", queue.name, f"{queue.dead_letters} holds no id {wanted!r}.")
        if len(names) > 1 and wanted not in names:
            raise Refused(
                "ambiguous_id", queue.name, f"{len(names)} ids in {queue.dead_letters} begin with {wanted!r}."
            )
    wanted_ids = {wanted if wanted in names else next(iter(names)) for wanted, names in matches.items()}
    return [message for name, messages in found.items() if name in wanted_ids for message in messages]
