"""system.*: the installation itself: queues, sends of unknown outcome, the schema. With an operator's key only."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ingress.api import cursors, verification
from ingress.api.broker_calls import broker
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import PageInput
from ingress.api.problems import CONFLICT, NOT_FOUND, Problem, not_found
from ingress.api.system_models import (
    CheckResult,
    Decide,
    Decided,
    Nothing,
    Queue,
    Queues,
    Status,
    UnknownSend,
    UnknownSends,
    Verified,
)
from shared.queue import depths, topology
from shared.queue.depths import Depth
from shared.store import counts
from shared.store.messages import unknown_sends
from shared.store.messages.unknown_sends import DecisionRefused, OutboundRef

READ: Final = "system:read"
WRITE: Final = "system:write"
_POSITION: Final = TypeAdapter(unknown_sends.Position)

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c51"
_TENANT: Final = "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d"
_AT: Final = "2026-11-28T16:00:00Z"
_QUEUE: Final[dict[str, Any]] = {"name": "media", "envelopes": 3, "consumers": 1, "dead": 0, "rows": 41}


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
    async with broker():
        return await depths.ask(call.settings, "palomar api")
