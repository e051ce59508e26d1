"""webhooks.*, what was sent: the log of deliveries, sending again, a sample, and what each event's body is."""

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import TenantInput
from ingress.api.problems import CONFLICT, Problem, invalid, not_found
from ingress.api.procedures.webhooks import ID, READ, WRITE, live
from ingress.api.webhook_models import (
    ListWebhookLogs,
    RecoverDeliveries,
    ReplayDeliveries,
    ReplayedDeliveries,
    SampleSent,
    SendSample,
    WebhookEventType,
    WebhookEventTypes,
    WebhookLog,
    WebhookLogAnswer,
    WebhookLogDetails,
    WebhookLogId,
    WebhookLogPage,
)
from shared.actions import webhook_replays
from shared.actions.webhook_replays import TooManyRanges
from shared.domain import public_events
from shared.domain.webhooks import bodies
from shared.queue.jobs import WebhookDue
from shared.store.newest_first import Position
from shared.store.webhook_deliveries import log as store
from shared.store.webhook_deliveries.replays import MOST_RANGES
from shared.store.webhooks import Webhook

_POSITION: Final = TypeAdapter(Position)
_EVENTS: Final = {one.name: one for one in public_events.EVENTS}

_LOG_ID: Final = "019ac2f0-c0de-8a63-9c55-0c3a1a2b3c4d"
_LOG: Final[dict[str, Any]] = {
    "id": _LOG_ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "webhookId": ID,
    "event": "message_received",
    "state": "pending",
    "isTest": False,
    "conversationId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c50",
    "sequence": 7,
    "attemptCount": 1,
    "statusCode": 500,
    "error": "status",
    "nextAttemptAt": "2026-11-28T16:00:05Z",
    "createdAt": "2026-11-28T16:00:00Z",
    "completedAt": "2026-11-28T16:00:00Z",
}
_ATTEMPT: Final[dict[str, Any]] = {
    "number": 1,
    "kind": "delivery",
    "at": "2026-11-28T16:00:00Z",
    "sentAgainAt": None,
    "endedAt": "2026-11-28T16:00:00Z",
    "status": 500,
    "ms": 31,
    "response": "Internal Server Error",
    "error": "status",
}


@query(
    "webhooks.logs",
    scope=READ,
    examples=[Example({"id": ID, "state": "pending", "limit": 1}, {"logs": [_LOG], "nextCursor": None})],
)
async def logs(call: Call, given: ListWebhookLogs) -> WebhookLogPage:
    """List what was sent to a webhook, and is to be, newest first."""
    await live(call, given.id)
    rows, read_up_to = await store.page(
        call.connection,
        call.tenant_id,
        given.id,
        state=given.state,
        event=given.event,
        since=given.since,
        until=given.until,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id), read_up_to)
    return WebhookLogPage(logs=[WebhookLog.of(row) for row in shown], next_cursor=next_cursor)


@query(
    "webhooks.log",
    scope=READ,
    examples=[
        Example(
            {"id": ID, "logId": _LOG_ID},
            {"log": {**_LOG, "payload": bodies.sample(_EVENTS["message_received"]), "attempts": [_ATTEMPT]}},
        )
    ],
)
async def log(call: Call, given: WebhookLogId) -> WebhookLogAnswer:
    """Get a delivery with its body, and each attempt with the answer to it."""
    await live(call, given.id)
    found = await store.get(call.connection, call.tenant_id, given.id, given.log_id)
    if found is None:
        raise not_found("delivery", "logId")
    return WebhookLogAnswer(log=WebhookLogDetails.of_whole(found))


@mutation(
    "webhooks.test",
    scope=WRITE,
    examples=[Example({"id": ID, "event": "message_received"}, {"logId": _LOG_ID})],
)
async def test(call: Call, given: SendSample) -> SampleSent:
    """Send the sample of an event to a webhook, once; also to one that is disabled or not active.

    It is signed as every delivery, and changes nothing about how the webhook's URL does.
    """
    webhook = await live(call, given.id)
    body = bodies.sample(_EVENTS[given.event])
    log_id = await webhook_replays.send_sample(call.connection, webhook, given.event, body)
    _wake(call, webhook)
    return SampleSent(log_id=log_id)


@mutation(
    "webhooks.replay",
    scope=WRITE,
    errors=[CONFLICT],
    examples=[
        Example({"id": ID, "logId": _LOG_ID}, {"count": 1, "isMore": False}),
        Example({"id": ID, "since": "2026-11-28T00:00:00Z"}, {"count": 2310, "isMore": False}, "A range of time"),
    ],
)
async def replay(call: Call, given: ReplayDeliveries) -> ReplayedDeliveries:
    """Send one delivery again, or all of a range of time.

    Each comes under its own `webhook-id`, signed with today's secret, in one attempt. It changes nothing about how the
    webhook's URL does, and works while the webhook is disabled. A range is worked off oldest first.
    """
    webhook = await live(call, given.id)
    if given.log_id is not None:
        if given.since is not None or given.until is not None:
            raise invalid("logId", "It stands beside a range of time.", "Give `logId`, or `since` and `until`.")
        if await store.get(call.connection, call.tenant_id, webhook.id, given.log_id) is None:
            raise not_found("delivery", "logId")
        if not await webhook_replays.replay(call.connection, webhook, given.log_id):
            raise Problem(CONFLICT, "What this delivery told was erased with the person that it was about.")
        _wake(call, webhook)
        return ReplayedDeliveries(count=1, is_more=False)
    if given.since is None:
        raise invalid("since", "Neither a delivery nor a range of time is named.", "Give `logId` or `since`.")
    until = min(given.until or datetime.now(UTC), datetime.now(UTC))
    if given.since >= until:
        raise invalid("since", "It is not before `until`.", "Give an earlier time.")
    return await _range(call, webhook, given.since, until, only_failed=False)


@mutation(
    "webhooks.recover",
    scope=WRITE,
    errors=[CONFLICT],
    examples=[Example({"id": ID, "since": "2026-11-28T00:00:00Z"}, {"count": 2310, "isMore": False})],
)
async def recover(call: Call, given: RecoverDeliveries) -> ReplayedDeliveries:
    """Send again all that failed since a time, or was missed while the webhook was disabled.

    As webhooks.replay does it.
    """
    webhook = await live(call, given.id)
    now = datetime.now(UTC)
    if given.since >= now:
        raise invalid("since", "It is in the future.", "Give an earlier time.")
    return await _range(call, webhook, given.since, now, only_failed=True)


@query(
    "webhooks.eventTypes",
    scope=READ,
    examples=[
        Example(
            {},
            {
                "eventTypes": [
                    {
                        "name": one.name,
                        "description": one.meaning,
                        "version": bodies.VERSION,
                        "jsonSchema": bodies.schema(one),
                        "sample": bodies.sample(one),
                    }
                    for one in public_events.EVENTS[:1]
                ]
            },
        )
    ],
)
async def event_types(call: Call, given: TenantInput) -> WebhookEventTypes:
    """List the kinds of events, each with the JSON Schema of its body, the version of that form, and a sample."""
    return WebhookEventTypes(
        event_types=[
            WebhookEventType(
                name=one.name,
                description=one.meaning,
                version=bodies.VERSION,
                json_schema=bodies.schema(one),
                sample=bodies.sample(one),
            )
            for one in public_events.EVENTS
        ]
    )


async def _range(
    call: Call, webhook: Webhook, since: datetime, until: datetime, *, only_failed: bool
) -> ReplayedDeliveries:
    try:
        counted = await webhook_replays.replay_range(call.connection, webhook, since, until, only_failed=only_failed)
    except TooManyRanges:
        raise Problem(
            CONFLICT, f"{MOST_RANGES} replays of this webhook are under way. Ask again when one of them is done."
        ) from None
    return ReplayedDeliveries(count=counted.found, is_more=counted.is_more)


def _wake(call: Call, webhook: Webhook) -> None:
    call.publish(WebhookDue(tenant_id=webhook.tenant_id, webhook_id=webhook.id))
