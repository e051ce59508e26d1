"""Reads the dead-letter queues, and puts dead letters back to work or throws them away.

A message that is taken from a queue stays unacked until that is done. If the process is killed before, the broker puts
the message back.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Self

import aiormq
import orjson
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from ops.errors import Problem
from shared.database import Pool
from shared.queue import topology
from shared.queue.connection import connected
from shared.queue.delivery import ATTEMPT, DEAD_LETTERED_AT, REASON, TRACEBACK
from shared.queue.envelope import Undecodable, decode
from shared.queue.jobs import Job, MediaWanted, ReplyWanted, SendAdmitted, SendRequested
from shared.queue.publisher import Publisher
from shared.queue.topology import WorkQueue
from shared.settings import Settings
from shared.store.messages import parked

SHORT_ID = 8  # characters of an id that name a dead letter, if only one begins so
LOOKED_AT = 500  # dead letters that a summary reads
WITH_ROWS: Final[tuple[type[Job], ...]] = (ReplyWanted, SendRequested, SendAdmitted, MediaWanted)

# The broker's own reasons for a dead letter, in words.
_BY_BROKER = {
    "delivery_limit": f"taken and not finished more than {topology.DELIVERY_LIMIT} times: it kills its consumer",
    "rejected": "rejected by a consumer",
    "expired": "its time to live ran out",
    "maxlen": "its queue was full",
}


@dataclass(frozen=True, slots=True)
class DeadItem:
    """One message of a dead-letter queue: `items` jobs, which have failed `attempts` times."""

    id: str
    type: str
    reason: str
    traceback: str
    attempts: int | None  # None: dead-lettered by the broker, which counts no attempts
    dead_lettered_at: datetime | None
    traces: tuple[str, ...]
    items: int
    body: bytes

    @classmethod
    def read(cls, message: AbstractIncomingMessage) -> Self:
        """Read a message's headers and envelope, of which each part may be missing."""
        headers = message.headers
        letter = _dead_letter(headers)
        reason = headers.get(REASON)
        if letter is not None:
            given = str(letter.get("reason"))
            reason = f"dead-lettered by the broker: {_BY_BROKER.get(given, given)}"
        attempts = headers.get(ATTEMPT)
        traces, items = _envelope(message.body)
        return cls(
            id=item_id(message),
            type=message.type or "",
            reason=str(reason or "no reason given"),
            traceback=str(headers.get(TRACEBACK) or ""),
            attempts=attempts if isinstance(attempts, int) and letter is None else None,
            dead_lettered_at=_moment(letter.get("time") if letter is not None else headers.get(DEAD_LETTERED_AT)),
            traces=traces,
            items=items,
            body=message.body,
        )


def item_id(message: AbstractIncomingMessage) -> str:
    """The message id; for one that has none, one made of its body."""
    return message.message_id or f"body-{sha256(message.body).hexdigest()[:32]}"


def _dead_letter(headers: Mapping[str, object]) -> Mapping[str, object] | None:
    """The newest entry of the broker's `x-death`, where the broker dead-lettered the message itself."""
    entries = headers.get("x-death")
    if isinstance(entries, list) and entries and isinstance(entries[0], dict):
        return entries[0]
    return None


def _moment(told: object) -> datetime | None:
    if isinstance(told, datetime):
        return told if told.tzinfo else told.replace(tzinfo=UTC)
    return datetime.fromtimestamp(told, UTC) if isinstance(told, int) else None


def _envelope(body: bytes) -> tuple[tuple[str, ...], int]:
    """The traces and the number of the jobs inside; () and 1 where the body is no envelope."""
    try:
        outer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return (), 1
    items = outer.get("items") if isinstance(outer, dict) else None
    if not isinstance(items, list):
        return (), 1
    traces = (str(item["trace"]) for item in items if isinstance(item, dict) and item.get("trace"))
    return tuple(dict.fromkeys(traces)), len(items)


def work_queue(name: str) -> WorkQueue:
    """`persist` or `persist.dead` → the work queue. Raises Problem naming those that exist."""
    for queue in topology.QUEUES:
        if name in (queue.name, queue.dead_letters):
            return queue
    raise Problem(f"There is no queue {name!r}.", f"Name one of: {', '.join(queue.name for queue in topology.QUEUES)}.")


class Shelf:
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
async def opened(settings: Settings, queue: WorkQueue) -> AsyncIterator[Shelf]:
    """Open the dead-letter queue of a work queue. Raises Problem where it is missing, BrokerAway without a broker."""
    async with connected(settings.amqp_url.get_secret_value(), "palomar dead") as connection:
        # One of its own: a connection that is blocked from publishing does not get acks through either.
        channel = await connection.channel()
        try:
            dead = await channel.declare_queue(queue.dead_letters, passive=True)
        except aiormq.ChannelNotFoundEntity:
            raise Problem(
                f"RabbitMQ has no queue {queue.dead_letters}.",
                "Start Palomar once with ./palomar up: it makes them.",
            ) from None
        try:
            yield Shelf(dead, dead.declaration_result.message_count or 0)
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
    async with opened(settings, queue) as shelf:
        async for message in shelf.take(LOOKED_AT):
            item = DeadItem.read(message)
            reasons[item.reason] += 1
            oldest = min((at for at in (oldest, item.dead_lettered_at) if at), default=None)
    reason, alike = reasons.most_common(1)[0] if reasons else ("", 0)
    return Summary(queue, shelf.waiting, oldest, reason, alike)


async def look(settings: Settings, queue: WorkQueue, limit: int) -> tuple[int, list[DeadItem]]:
    """The number of messages in a dead-letter queue, and the first of them. Raises as `opened`."""
    async with opened(settings, queue) as shelf:
        return shelf.waiting, [DeadItem.read(message) async for message in shelf.take(limit)]


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


def give_up(pool: Pool) -> Deal:
    """Abandon the rows that are parked until this dead letter is replayed."""

    async def deal(message: AbstractIncomingMessage) -> None:
        for kind in WITH_ROWS:
            with suppress(Undecodable):
                items, _ = decode(message.body, kind)
                async with pool.acquire() as connection, connection.transaction():
                    await parked.give_up(connection, items)

    return deal


async def settle(settings: Settings, queue: WorkQueue, ids: Sequence[str] | None, deal: Deal, tell: Tell) -> int:
    """Deal with the dead letters of these ids (None: all that are there now), and remove each after that.

    Returns how many. Raises Problem for an id that none or several begin with, before anything is touched.
    """
    done = 0
    async with opened(settings, queue) as shelf:
        if ids is None:
            async for message in shelf.take():
                await _remove(message, deal)
                done += 1
                tell(done, shelf.waiting)
        else:
            chosen = await _chosen(shelf, queue, ids)
            for message in chosen:
                await _remove(message, deal)
                done += 1
                tell(done, len(chosen))
    return done


async def _remove(message: AbstractIncomingMessage, deal: Deal) -> None:
    await deal(message)
    await message.ack()


async def _chosen(shelf: Shelf, queue: WorkQueue, ids: Sequence[str]) -> list[AbstractIncomingMessage]:
    """The messages that these ids, or beginnings of ids, mean."""
    found: dict[str, list[AbstractIncomingMessage]] = {}
    matches: dict[str, set[str]] = {wanted: set() for wanted in ids}
    async for message in shelf.take():
        name = item_id(message)
        for wanted in ids:
            if name == wanted or (len(wanted) >= SHORT_ID and name.startswith(wanted)):
                matches[wanted].add(name)
        if any(name in names for names in matches.values()):
            found.setdefault(name, []).append(message)
    for wanted, names in matches.items():
        if not names:
            raise Problem(f"{queue.dead_letters} holds no id {wanted!r}.", f"See ./palomar dead show {queue.name}.")
        if len(names) > 1 and wanted not in names:
            raise Problem(f"{len(names)} ids in {queue.dead_letters} begin with {wanted!r}.", "Give more of the id.")
    wanted_ids = {wanted if wanted in names else next(iter(names)) for wanted, names in matches.items()}
    return [message for name, messages in found.items() if name in wanted_ids for message in messages]
