"""webhooks.*: URLs of the tenant's own systems that get events. webhook_logs.py has what was sent to them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from ingress.api import cursors, public_urls
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.problems import CONFLICT, VERSION_MISMATCH, Problem, not_found
from ingress.api.webhook_models import (
    CreateWebhook,
    ListWebhooks,
    NewWebhook,
    RotateSecret,
    UpdateWebhook,
    Webhook,
    WebhookAnswer,
    WebhookId,
    WebhookPage,
)
from shared.actions import webhooks
from shared.queue.jobs import WebhookDue
from shared.store import channel_records
from shared.store import webhooks as store
from shared.store.newest_first import Position
from shared.store.webhooks import MOST_WEBHOOKS, WebhookValues

READ: Final = "webhooks:read"
WRITE: Final = "webhooks:write"
_POSITION: Final = TypeAdapter(Position)

ID: Final = "019ac2f0-b5d6-7e5a-86e7-803f5e6d7c82"
_CHANNEL: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4f"
_SHOP: Final[dict[str, Any]] = {
    "id": ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "name": "Web shop",
    "url": "https://shop.example/palomar",
    "events": ["contact_created", "message_*"],
    "channelIds": [_CHANNEL],
    "direction": None,
    "tags": [],
    "inOrder": True,
    "hasSecret": True,
    "publicKey": "whpk_dYt2QSMBVEOFPtzdqyJ1BqeVK3hFp4ZHIkXaw6PqRf4=",
    "previousUntil": None,
    "isActive": True,
    "failures": 0,
    "firstFailedAt": None,
    "openUntil": None,
    "disabledAt": None,
    "disabledReason": None,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
    "deletedAt": None,
}


@query("webhooks.list", scope=READ, examples=[Example({"limit": 1}, {"webhooks": [_SHOP], "nextCursor": None})])
async def list_(call: Call, given: ListWebhooks) -> WebhookPage:
    """List webhooks, newest first."""
    rows = await store.page(
        call.connection,
        call.tenant_id,
        is_active=given.is_active,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return WebhookPage(webhooks=[Webhook.of(row) for row in shown], next_cursor=next_cursor)


@query("webhooks.get", scope=READ, examples=[Example({"id": ID}, {"webhook": _SHOP})])
async def get(call: Call, given: WebhookId) -> WebhookAnswer:
    """Get a webhook, and how its URL does."""
    return WebhookAnswer(webhook=Webhook.of(await live(call, given.id)))


@mutation(
    "webhooks.create",
    scope=WRITE,
    errors=[CONFLICT],
    shown_once=["secret"],
    examples=[
        Example(
            {
                "name": "Web shop",
                "url": "https://shop.example/palomar",
                "events": ["contact_created", "message_*"],
                "channelIds": [_CHANNEL],
                "inOrder": True,
            },
            {"webhook": _SHOP, "secret": "whsec_…"},
        )
    ],
)
async def create(call: Call, given: CreateWebhook) -> NewWebhook:
    """Create a webhook.

    The answer is the only place that shows its secret. Deliveries are signed as Standard Webhooks describes it, with
    the secret (v1) and with a key whose public half is `publicKey` (v1a).
    """
    await _check_channels(call, given.channel_ids)
    if await store.count(call.connection, call.tenant_id) >= MOST_WEBHOOKS:
        raise Problem(CONFLICT, f"A tenant has at most {MOST_WEBHOOKS} webhooks. Delete one that is not needed.")
    values = WebhookValues(
        name=given.name,
        url=public_urls.of_webhook(call.settings, given.url, "url"),
        events=tuple(dict.fromkeys(given.events)),
        is_active=given.is_active,
        channel_ids=tuple(dict.fromkeys(given.channel_ids or ())),
        direction=given.direction,
        tags=tuple(dict.fromkeys(given.tags or ())),
        in_order=bool(given.in_order),
    )
    made = await webhooks.create(call.connection, call.keys, call.tenant_id, values)
    return NewWebhook(webhook=Webhook.of(made.stored), secret=made.secret)


@mutation(
    "webhooks.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID, "name": "Web shop"}, {"webhook": _SHOP})],
)
async def update(call: Call, given: UpdateWebhook) -> WebhookAnswer:
    """Change a webhook. With If-Match only the version that you have seen is changed. Its secret stays.

    `isActive: true` enables a webhook that Palomar has disabled: what waits is delivered at once. A new URL is tried at
    once, too.
    """
    stored = await live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    await _check_channels(call, given.channel_ids)
    changed: dict[str, Any] = {
        name: tuple(dict.fromkeys(found)) if isinstance(found, list) else found
        for name in ("name", "events", "is_active", "channel_ids", "tags", "in_order")
        if (found := getattr(given, name)) is not None
    }
    if given.url is not None:
        changed["url"] = public_urls.of_webhook(call.settings, given.url, "url")
    if "direction" in given.model_fields_set:
        changed["direction"] = given.direction
    values = replace(stored.values, **changed)
    after = await webhooks.update(call.connection, stored, values, switches=given.is_active is not None)
    if values.is_active and (not stored.values.is_active or stored.health.disabled_at or "url" in changed):
        call.publish(WebhookDue(tenant_id=call.tenant_id, webhook_id=stored.id))
    return WebhookAnswer(webhook=Webhook.of(after))


@mutation(
    "webhooks.rotateSecret",
    scope=WRITE,
    shown_once=["secret"],
    examples=[
        Example(
            {"id": ID, "overlapSeconds": 3600},
            {"webhook": {**_SHOP, "previousUntil": "2026-11-28T17:00:00Z"}, "secret": "whsec_…"},
        )
    ],
)
async def rotate_secret(call: Call, given: RotateSecret) -> NewWebhook:
    """Give a webhook a new secret and a new key pair.

    The ones before sign too for `overlapSeconds`, so that your system can change meanwhile. A second rotation within
    that time ends what signed before the first one.
    """
    overlap = call.settings.webhook_secret_overlap if given.overlap_seconds is None else given.overlap_seconds
    stored = await live(call, given.id, lock=True)
    made = await webhooks.rotate(call.connection, call.keys, stored, timedelta(seconds=overlap))
    return NewWebhook(webhook=Webhook.of(made.stored), secret=made.secret)


@mutation(
    "webhooks.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"webhook": {**_SHOP, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: WebhookId) -> WebhookAnswer:
    """Delete a webhook. Nothing more is sent to it."""
    if call.if_match is not None:
        call.expect_version((await live(call, given.id, lock=True)).updated_at)
    deleted = await webhooks.delete(call.connection, call.tenant_id, given.id)
    if deleted is None:
        raise not_found("webhook")
    return WebhookAnswer(webhook=Webhook.of(deleted))


async def live(call: Call, webhook_id: UUID, *, lock: bool = False) -> store.Webhook:
    """The tenant's webhook with this id. Raises the problem of one that is not there, or deleted."""
    found = await store.get(call.connection, call.tenant_id, webhook_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("webhook")
    return found


async def _check_channels(call: Call, named: list[UUID] | None) -> None:
    for place, channel_id in enumerate(named or ()):
        if await channel_records.get(call.connection, call.tenant_id, channel_id) is None:
            raise not_found("channel", "channelIds", place)
