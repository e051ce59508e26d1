"""system.deadLetters and what becomes of them. With an operator's key only."""

from typing import Any, Final

from ingress.api.broker_calls import broker
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.problems import NOT_FOUND, invalid
from ingress.api.procedures.system import READ, WRITE
from ingress.api.system_models import DeadLetter, DeadLetters, ListDeadLetters, Settled, SettleDeadLetters
from shared.actions import dead_letters
from shared.actions.dead_letters import Refused
from shared.queue import topology
from shared.queue.dead_item import DeadItem
from shared.queue.topology import WorkQueue

_LETTER: Final[dict[str, Any]] = {
    "id": "5f0c9d3e", "type": "MediaWanted", "reason": "TimeoutError", "attempts": 5,
    "deadLetteredAt": "2026-11-28T16:00:00Z", "traces": ["5f0c9d3e"], "items": 1,
}  # fmt: skip


async def _looked(call: Call, given: ListDeadLetters) -> tuple[int, list[DeadItem]]:
    async with broker():
        return await dead_letters.look(call.settings, _work_queue(given.queue), given.limit)


@query(
    "system.deadLetters",
    outside=_looked,
    scope=READ,
    operator=True,
    examples=[Example({"queue": "media"}, {"count": 1, "deadLetters": [_LETTER]})],
)
async def list_dead_letters(call: Call, given: ListDeadLetters, found: tuple[int, list[DeadItem]]) -> DeadLetters:
    """List the dead letters of a work queue, oldest first: why, since when, after how many attempts.

    It shows at most 200 and has no further pages, for RabbitMQ shows a queue from its beginning only. `count` is how
    many there are. Replay or discard the oldest ones to see those behind them.
    """
    count, items = found
    return DeadLetters(
        count=count,
        dead_letters=[
            DeadLetter(
                id=item.id,
                type=item.type,
                reason=item.reason,
                attempts=item.attempts,
                dead_lettered_at=item.dead_lettered_at,
                traces=list(item.traces),
                items=item.items,
            )
            for item in items
        ],
    )


async def _replayed(call: Call, given: SettleDeadLetters) -> int:
    queue = _work_queue(given.queue)
    async with broker():
        return await dead_letters.replay(call.settings, queue, given.ids)


@mutation(
    "system.replayDeadLetters",
    outside=_replayed,
    scope=WRITE,
    operator=True,
    errors=[NOT_FOUND],
    examples=[Example({"queue": "media", "ids": ["5f0c9d3e"]}, {"count": 1})],
)
async def replay(call: Call, given: SettleDeadLetters, done: int) -> Settled:
    """Put dead letters back into their work queue as if they were new, once their cause is mended.

    A request that comes again, with an Idempotency-Key or without, takes no other letters than these. Where the answer
    to the first one was lost, it is answered NOT_FOUND: they are gone.
    """
    return Settled(count=done)


async def _discarded(call: Call, given: SettleDeadLetters) -> int:
    queue = _work_queue(given.queue)
    async with broker():
        return await dead_letters.settle(call.settings, queue, given.ids, dead_letters.give_up(call.transaction))


@mutation(
    "system.discardDeadLetters",
    outside=_discarded,
    scope=WRITE,
    operator=True,
    errors=[NOT_FOUND],
    examples=[Example({"queue": "media", "ids": ["5f0c9d3e"]}, {"count": 1})],
)
async def discard(call: Call, given: SettleDeadLetters, done: int) -> Settled:
    """Throw dead letters away for good, and abandon their rows: a message fails, a reply is owed no longer.

    A webhook that was never stored is lost. A request that comes again is answered as by system.replayDeadLetters.
    """
    return Settled(count=done)


def _work_queue(name: str) -> WorkQueue:
    try:
        return dead_letters.work_queue(name)
    except Refused as refused:
        names = ", ".join(queue.name for queue in topology.QUEUES)
        raise invalid("queue", refused.detail, f"Give one of: {names}.") from None
