"""webhooks.*: URLs of the tenant's own systems that get events."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors, public_urls
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Name, Output, Page, Part, TenantInput
from ingress.api.problems import VERSION_MISMATCH, not_found
from shared.actions import webhooks
from shared.store import webhooks as store
from shared.store.newest_first import Position
from shared.store.webhooks import WebhookValues

READ: Final = "webhooks:read"
WRITE: Final = "webhooks:write"
MOST_EVENTS: Final = 100
_POSITION: Final = TypeAdapter(Position)

Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    Field(description="https, and no address of a private network.", examples=["https://shop.example/palomar"]),
]
EventName = Annotated[
    str,
    StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_]{0,62}\*?)$", max_length=64),
    Field(description="Such as message_received; message_* is all that begin so, * is every event."),
]

_ID: Final = "019ac2f0-b5d6-7e5a-86e7-803f5e6d7c82"
_SHOP: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "name": "Web shop",
    "url": "https://shop.example/palomar",
    "events": ["contact_created", "message_*"],
    "hasSecret": True,
    "isActive": True,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
    "deletedAt": None,
}


class Webhook(Part):
    """A URL that gets events. Its secret is not shown."""

    id: UUID
    tenant_id: UUID
    name: str
    url: str
    events: list[str]
    has_secret: bool = Field(description="Whether deliveries are signed.")
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, stored: store.Webhook) -> "Webhook":
        """The webhook of a row."""
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            name=stored.values.name,
            url=stored.values.url,
            events=list(stored.values.events),
            has_secret=stored.has_secret,
            is_active=stored.values.is_active,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            deleted_at=stored.deleted_at,
        )


class WebhookAnswer(Output):
    webhook: Webhook


class NewWebhook(WebhookAnswer):
    secret: str | None = Field(
        description="What deliveries are signed with. It is shown once, and stored sealed: null where this answers a "
        "request that came again with its Idempotency-Key."
    )


class WebhookPage(Page):
    webhooks: list[Webhook]


class ListWebhooks(ListInput):
    is_active: bool | None = Field(default=None, description="Only those that are, or are not, active.")


class WebhookId(TenantInput):
    id: UUID


class CreateWebhook(TenantInput):
    name: Name
    url: Url
    events: list[EventName] = Field(min_length=1, max_length=MOST_EVENTS)
    is_active: bool = True


class UpdateWebhook(WebhookId):
    """What is left out stays as it is."""

    name: Name | None = None
    url: Url | None = None
    events: list[EventName] | None = Field(default=None, min_length=1, max_length=MOST_EVENTS)
    is_active: bool | None = None


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


@query("webhooks.get", scope=READ, examples=[Example({"id": _ID}, {"webhook": _SHOP})])
async def get(call: Call, given: WebhookId) -> WebhookAnswer:
    """Get a webhook."""
    return WebhookAnswer(webhook=Webhook.of(await _live(call, given.id)))


@mutation(
    "webhooks.create",
    scope=WRITE,
    shown_once=["secret"],
    examples=[
        Example(
            {"name": "Web shop", "url": "https://shop.example/palomar", "events": ["contact_created", "message_*"]},
            {"webhook": _SHOP, "secret": "whsec_…"},
        )
    ],
)
async def create(call: Call, given: CreateWebhook) -> NewWebhook:
    """Create a webhook.

    The answer is the only place that shows its secret.
    """
    values = WebhookValues(
        given.name, public_urls.checked(call, given.url, "url"), tuple(dict.fromkeys(given.events)), given.is_active
    )
    made = await webhooks.create(call.connection, call.keys, call.tenant_id, values)
    return NewWebhook(webhook=Webhook.of(made.stored), secret=made.secret)


@mutation(
    "webhooks.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "name": "Web shop"}, {"webhook": _SHOP})],
)
async def update(call: Call, given: UpdateWebhook) -> WebhookAnswer:
    """Change a webhook. With If-Match only the version that you have seen is changed. Its secret stays."""
    stored = await _live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    before = stored.values
    values = WebhookValues(
        before.name if given.name is None else given.name,
        before.url if given.url is None else public_urls.checked(call, given.url, "url"),
        before.events if given.events is None else tuple(dict.fromkeys(given.events)),
        before.is_active if given.is_active is None else given.is_active,
    )
    return WebhookAnswer(webhook=Webhook.of(await webhooks.update(call.connection, stored, values)))


@mutation(
    "webhooks.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID}, {"webhook": {**_SHOP, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: WebhookId) -> WebhookAnswer:
    """Delete a webhook. Nothing more is sent to it."""
    if call.if_match is not None:
        call.expect_version((await _live(call, given.id, lock=True)).updated_at)
    deleted = await webhooks.delete(call.connection, call.tenant_id, given.id)
    if deleted is None:
        raise not_found("webhook")
    return WebhookAnswer(webhook=Webhook.of(deleted))


async def _live(call: Call, webhook_id: UUID, *, lock: bool = False) -> store.Webhook:
    found = await store.get(call.connection, call.tenant_id, webhook_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("webhook")
    return found
