"""system.*: the installation itself: queues, dead letters, sends of unknown outcome. With an operator's key only."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ingress.api import cursors, verification
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import PageInput
from ingress.api.problems import CONFLICT, NOT_FOUND, UNAVAILABLE, FieldError, Problem, invalid, not_found, pointer
from ingress.api.system_models import (
    CheckResult,
    DeadLetter,
    DeadLetters,
    Decide,
    Decided,
    ListDeadLetters,
    Nothing,
    Queue,
    Queues,
    Settled,
    SettleDeadLetters,
    Status,
    UnknownSend,
    UnknownSends,
    Verified,
)
from shared.actions import dead_letters
from shared.actions.dead_letters import Refused
from shared.queue import depths, topology
from shared.queue.connection import BrokerAway, PublishFailed
from shared.queue.dead_item import DeadItem
from shared.queue.depths import Depth
from shared.queue.topology import WorkQueue
from shared.store import counts
from shared.store.messages import unknown_sends
from shared.store.messages.unknown_sends import DecisionRefused, OutboundRef

READ: Final = "system:read"
WRITE: Final = "system:write"
PATIENCE: Final = 10.0  # seconds for the broker's part of a call
AGAIN: Final = 5.0  # seconds; Retry-After where the broker is away
_POSITION: Final = TypeAdapter(unknown_sends.Position)

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c51"
_TENANT: Final = "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d"
_AT: Final = "2026-11-28T16:00:00Z"
_QUEUE: Final[dict[str, Any]] = {"name": "media", "envelopes": 3, "consumers": 1, "dead": 0, "rows": 41}
_LETTER: Final[dict[str, Any]] = {
    "id": "5f0c9d3e", "type": "MediaWanted", "reason": "TimeoutError", "attempts": 5, "deadLetteredAt": _AT,
    "traces": ["5f0c9d3e"], "items": 1,
}  # fmt: skip


async def _broker_answers(call: Call, _: Nothing) -> bool:
    try:
        await _counted(call)
    except Problem:
        return False
    return True


@query(
    "system.status",
    outside=_broker_answers,
    scope=READ,
    operator=True,
    examples=[
        Example(
            {},
            {
                "broker": "answers", "overdue": 0, "setAside": 0, "restored": 0, "held": 12, "unknown": 1,
                "repliesOwed": 3, "parkedReceipts": 0, "relayLagSeconds": 0.01, "stoppedChannels": [],
            },
        )
    ],
)  # fmt: skip
async def status(call: Call, given: Nothing, answers: bool) -> Status:
    """Count the rows that wait, of all tenants, and say whether the broker answers."""
    rows = await counts.rows(call.connection)
    return Status(
        broker="answers" if answers else "away",
        overdue=rows.overdue,
        set_aside=rows.set_aside,
        restored=rows.restored,
        held=rows.held,
        unknown=rows.unknown,
        replies_owed=rows.replies_owed,
        parked_receipts=rows.parked_receipts,
        relay_lag_seconds=rows.relay_lag,
        stopped_channels=[UUID(one) for one in rows.stopped_channels],
    )


async def _depths(call: Call, _: Nothing) -> Mapping[str, Depth]:
    return await _counted(call)


@query(
    "system.queues",
    outside=_depths,
    scope=READ,
    operator=True,
    examples=[Example({}, {"queues": [_QUEUE], "retrying": 0})],
)
async def queues(call: Call, given: Nothing, counted: Mapping[str, Depth]) -> Queues:
    """List the work queues with their depths."""
    waiting = await counts.by_queue(call.connection)
    return Queues(
        queues=[
            Queue(
                name=queue.name,
                envelopes=counted[queue.name].envelopes,
                consumers=counted[queue.name].consumers,
                dead=counted[queue.dead_letters].envelopes,
                rows=waiting.get(queue.name, 0),
            )
            for queue in topology.QUEUES
        ],
        retrying=depths.retrying(call.settings, counted),
    )


async def _looked(call: Call, given: ListDeadLetters) -> tuple[int, list[DeadItem]]:
    async with _broker():
        return await dead_letters.look(call.settings, _queue(given.queue), given.limit)


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
    queue = _queue(given.queue)
    async with _broker():
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
    queue = _queue(given.queue)
    async with _broker():
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


@query(
    "system.unknownSends",
    scope=READ,
    operator=True,
    examples=[
        Example(
            {},
            {
                "unknownSends": [
                    {
                        "id": _ID, "tenantId": _TENANT, "tenant": "Tienda", "channelId": _ID, "channel": "+14155238886",
                        "lane": "normal", "claimedAt": _AT, "unknownAt": _AT, "lookedUpAt": None, "reason": None,
                    }
                ],
                "nextCursor": None,
            },
        )
    ],
)  # fmt: skip
async def list_unknown(call: Call, given: PageInput) -> UnknownSends:
    """List the messages whose outcome is unknown, of all tenants, the oldest first. Their texts are not shown."""
    after = cursors.position(call, given, _POSITION)
    rows = await unknown_sends.listed(call.connection, given.limit + 1, after)
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, unknown_sends.position)
    views = [{name: value for name, value in asdict(one).items() if name != "content"} for one in shown]
    return UnknownSends(unknown_sends=[UnknownSend(**one) for one in views], next_cursor=next_cursor)


@mutation(
    "system.decideUnknownSend",
    scope=WRITE,
    operator=True,
    errors=[NOT_FOUND],
    examples=[Example({"id": _ID, "decision": "fail"}, {"id": _ID, "decision": "fail", "sentAs": None})],
)
async def decide(call: Call, given: Decide) -> Decided:
    """Decide on a message of unknown outcome, after you have looked it up at the provider."""
    message = await _message(call, given.id)
    try:
        if given.decision == "fail":
            await unknown_sends.fail(call.connection, message)
            return Decided(id=given.id, decision="fail", sent_as=None)
        handoff = timedelta(seconds=call.settings.handoff_lease)
        request = await unknown_sends.resend(call.connection, message, handoff)
    except DecisionRefused as refused:
        raise Problem(CONFLICT, f"This message {refused}.") from None
    call.publish(request)
    return Decided(id=given.id, decision="resend", sent_as=request.message_id)


@query(
    "system.verify",
    outside=verification.findings,
    scope=READ,
    operator=True,
    examples=[
        Example(
            {},
            {
                "ok": True,
                "checks": [{"group": "Palomar", "name": "migrations applied", "ok": True, "detail": None,
                            "remedy": None}],
            },
        )
    ],
)  # fmt: skip
async def verify(call: Call, given: Nothing, found: list[CheckResult]) -> Verified:
    """Check the database as `palomar verify` does: its schema, roles, rights and policies.

    The API checks with the role of its own DATABASE_URL, and takes half a minute at most. A check that this role may
    not make, or for which no time is left, has null in `ok`.
    """
    return Verified(ok=all(check.ok for check in found), checks=found)


async def _message(call: Call, message_id: UUID) -> OutboundRef:
    found = await unknown_sends.beginning(call.connection, message_id.hex)
    if not found:
        raise not_found("outbound message")
    return found[0]


async def _counted(call: Call) -> Mapping[str, Depth]:
    async with _broker():
        return await depths.ask(call.settings, "palomar api")


def _queue(name: str) -> WorkQueue:
    try:
        return dead_letters.work_queue(name)
    except Refused as refused:
        names = ", ".join(queue.name for queue in topology.QUEUES)
        raise invalid("queue", refused.detail, f"Give one of: {names}.") from None


@asynccontextmanager
async def _broker() -> AsyncIterator[None]:
    """Turn what the broker refuses, or is away for, into a Problem."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except Refused as refused:
        error = FieldError(pointer("ids"), refused.detail, "See system.deadLetters.")
        raise Problem(NOT_FOUND, refused.detail, errors=[error]) from None
    except (BrokerAway, PublishFailed, depths.NotDeclared, depths.BrokeOff, TimeoutError):
        raise Problem(UNAVAILABLE, "RabbitMQ does not answer, or not in time.", retry_after=AGAIN) from None
