"""A webhook, its deliveries and their attempts, as the API takes and shows them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ingress.api.models import ListInput, Moment, Name, Output, Page, Part, TenantInput
from shared.domain import public_events
from shared.store import webhooks as store
from shared.store.webhook_deliveries import log
from shared.store.webhooks import Direction

MOST_EVENTS: Final = 100
MOST_NAMED: Final = 100  # channels or tags of one webhook
LONGEST_OVERLAP: Final = 30 * 86_400  # seconds
SAMPLE: Final = "message_received"  # what a test sends where nothing else is asked for


def _names_events(given: str) -> str:
    if given.endswith("*"):
        if any(name.startswith(given[:-1]) for name in public_events.NAMES):
            return given
        detail = "No event's name begins so"
    elif given in public_events.NAMES:
        return given
    else:
        detail = "There is no such event"
    raise PydanticCustomError("event", detail, {"remedy": "webhooks.eventTypes lists the names; * is every event."})


def _is_event(given: str) -> str:
    if given not in public_events.NAMES:
        remedy = "webhooks.eventTypes lists the names."
        raise PydanticCustomError("event", "There is no such event", {"remedy": remedy})
    return given


Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    Field(description="https, and no address of a private network.", examples=["https://shop.example/palomar"]),
]
EventPattern = Annotated[
    str,
    StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_]{0,62}\*?)$", max_length=64),
    AfterValidator(_names_events),
    Field(
        description="Such as message_received; message_* is all that begin so, * is every event but webhook_triggered, "
        "which has to be named."
    ),
]
KnownEvent = Annotated[str, StringConstraints(max_length=64), AfterValidator(_is_event)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Webhook(Part):
    """A URL that gets events. Its secret is not shown."""

    CHANGE_APART: ClassVar[tuple[str, ...]] = ("failures", "first_failed_at", "open_until", "disabled_at")

    id: UUID
    tenant_id: UUID
    name: str
    url: str
    events: list[str]
    channel_ids: list[UUID] = Field(description="Only events about these channels; empty: it does not matter.")
    direction: Direction | None = Field(description="Only events about such messages; null: it does not matter.")
    tags: list[str] = Field(
        description="Only events about contacts with any of these in `metadata.tags`; empty: it does not matter."
    )
    in_order: bool = Field(description="Whether the events of each conversation are delivered one after the other.")
    has_secret: bool = Field(description="Whether deliveries are signed with a secret.")
    public_key: str | None = Field(description="whpk_…, for signatures of the kind v1a; null: it has none yet.")
    previous_until: datetime | None = Field(
        description="Until then the secret and the key from before the last rotation sign too."
    )
    is_active: bool
    failures: int = Field(description="Attempts in a row that have failed.")
    first_failed_at: datetime | None = Field(description="The first one of these.")
    open_until: datetime | None = Field(description="After repeated failures: when it is tried again.")
    disabled_at: datetime | None = Field(
        description="When Palomar stopped to deliver. What happens meanwhile is kept as missed. An update with "
        "`isActive: true` enables it, webhooks.recover sends what was missed."
    )
    disabled_reason: str | None = Field(description="Why: `exhausted`, `gone` (it answered 410), …")
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, stored: store.Webhook) -> "Webhook":
        """The webhook of a row."""
        values, health = stored.values, stored.health
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            name=values.name,
            url=values.url,
            events=list(values.events),
            channel_ids=list(values.channel_ids),
            direction=values.direction,
            tags=list(values.tags),
            in_order=values.in_order,
            has_secret=stored.has_secret,
            public_key=stored.public_key,
            previous_until=stored.previous_until,
            is_active=values.is_active,
            failures=health.failures,
            first_failed_at=health.first_failed_at,
            open_until=health.open_until,
            disabled_at=health.disabled_at,
            disabled_reason=health.disabled_reason,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            deleted_at=stored.deleted_at,
        )


class WebhookAnswer(Output):
    webhook: Webhook


class NewWebhook(WebhookAnswer):
    secret: str | None = Field(
        description="What deliveries are signed with (v1). It is shown once, and stored sealed: null where this "
        "answers a request that came again with its Idempotency-Key."
    )


class WebhookPage(Page):
    webhooks: list[Webhook]


class ListWebhooks(ListInput):
    is_active: bool | None = Field(default=None, description="Only those that are, or are not, active.")


class WebhookId(TenantInput):
    id: UUID


class _Filters(TenantInput):
    channel_ids: Annotated[list[UUID], Field(max_length=MOST_NAMED)] | None = Field(
        default=None, description="Only events about these channels; empty: it does not matter."
    )
    direction: Direction | None = Field(default=None, description="Only events about such messages.")
    tags: Annotated[list[Tag], Field(max_length=MOST_NAMED)] | None = Field(
        default=None, description="Only events about contacts with any of these in `metadata.tags`."
    )
    in_order: bool | None = Field(
        default=None, description="Deliver the events of each conversation one after the other."
    )


class CreateWebhook(_Filters):
    name: Name
    url: Url
    events: list[EventPattern] = Field(min_length=1, max_length=MOST_EVENTS)
    is_active: bool = True


class UpdateWebhook(_Filters, WebhookId):
    """What is left out stays as it is. `direction: null` lets both directions pass again."""

    name: Name | None = None
    url: Url | None = None
    events: list[EventPattern] | None = Field(default=None, min_length=1, max_length=MOST_EVENTS)
    is_active: bool | None = Field(default=None, description="true enables a webhook that Palomar has disabled, too.")


class RotateSecret(WebhookId):
    overlap_seconds: int | None = Field(
        default=None,
        ge=0,
        le=LONGEST_OVERLAP,
        description="So long the secret and the key before sign too. Left out: as the operator's setting says, a day.",
    )


class WebhookLog(Part):
    """One event for one webhook. Its id is the header `webhook-id` of each attempt."""

    id: UUID
    tenant_id: UUID
    webhook_id: UUID
    event: str
    state: log.State = Field(
        description="pending: it comes, or is tried again. waiting: it waits for the event before it in its "
        "conversation. failed: all attempts failed. missed: it happened while the webhook was disabled."
    )
    is_test: bool
    conversation_id: UUID | None
    sequence: int | None = Field(description="Of its conversation, where the webhook wants them in order.")
    attempt_count: int = Field(description="Attempts of the schedule that have ended; replays and tests do not count.")
    status_code: int | None = Field(description="Of the last answer.")
    error: str | None = Field(description="Of the last attempt: `timeout`, `dns`, `connect`, `tls`, `status`, …")
    next_attempt_at: datetime | None
    created_at: datetime
    completed_at: datetime | None = Field(description="When the last attempt ended.")

    @classmethod
    def of(cls, stored: log.Delivery) -> "WebhookLog":
        """The delivery of a row."""
        return cls(**{name: getattr(stored, name) for name in cls.model_fields})


class WebhookAttempt(Part):
    """One POST of a delivery; two where your server had closed the kept connection when the first one came."""

    number: int
    kind: str = Field(description="delivery, replay or test.")
    at: datetime
    sent_again_at: datetime | None = Field(
        description="When it was sent a second time, over a new connection, as the kept one ended without an answer."
    )
    ended_at: datetime | None = Field(description="null: it is under way, or our process ended meanwhile.")
    status: int | None
    ms: int | None
    response: str | None = Field(description="The first 4 KiB of the answer.")
    error: str | None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "WebhookAttempt":
        """An attempt of the log."""
        return cls.model_validate({name: stored.get(name) for name in cls.model_fields}, by_name=True)


class WebhookLogDetails(WebhookLog):
    """A delivery with its body and its attempts."""

    payload: dict[str, Any] = Field(description="The body.")
    attempts: list[WebhookAttempt] = Field(description="Oldest first.")

    @classmethod
    def of_whole(cls, found: log.Whole) -> "WebhookLogDetails":
        """The delivery of a row, with all that the row has."""
        attempts = [WebhookAttempt.of(one) for one in found.attempts]
        return cls(**WebhookLog.of(found.delivery).model_dump(), payload=dict(found.payload), attempts=attempts)


class ListWebhookLogs(WebhookId, ListInput):
    state: log.State | None = Field(default=None, description="Only these.")
    event: KnownEvent | None = Field(default=None, description="Only deliveries of this event.")
    since: Moment | None = Field(default=None, description="Only events from then on.")
    until: Moment | None = Field(default=None, description="Only events before then.")


class WebhookLogPage(Page):
    logs: list[WebhookLog]


class WebhookLogId(WebhookId):
    log_id: UUID = Field(description="The id of a delivery: its header `webhook-id`.")


class WebhookLogAnswer(Output):
    log: WebhookLogDetails


class SendSample(WebhookId):
    event: KnownEvent = Field(default=SAMPLE, description="Whose sample is sent.")


class SampleSent(Output):
    log_id: UUID = Field(description="Get webhooks.log with it: within seconds it has the attempt and the answer.")


class ReplayDeliveries(WebhookId):
    """One delivery, or those of a range of time."""

    log_id: UUID | None = Field(default=None, description="One delivery; then leave `since` and `until` out.")
    since: Moment | None = Field(default=None, description="All deliveries from then on that are delivered, failed or "
                                 "missed; pending ones come by themselves.")  # fmt: skip
    until: Moment | None = Field(default=None, description="With `since`; left out: until now.")


class RecoverDeliveries(WebhookId):
    since: Moment = Field(description="All that failed or was missed from then on.")


class ReplayedDeliveries(Output):
    count: int = Field(description="How many deliveries are sent again; at least so many with `isMore`.")
    is_more: bool = Field(description="Whether there are more than were counted.")


class WebhookEventType(Part):
    """What a webhook gets of a kind of event."""

    name: str
    description: str
    version: int = Field(description="Of the form of the body. It is in each body too.")
    json_schema: dict[str, Any] = Field(description="JSON Schema of the body.")
    sample: dict[str, Any] = Field(description="A body, as webhooks.test sends it.")


class WebhookEventTypes(Output):
    event_types: list[WebhookEventType]
