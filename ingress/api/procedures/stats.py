"""stats.*: a tenant's figures: conversations by provider, deliveries, reply times, windows that close, what waits."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import ListInput, Moment, Output, Page, Part, TenantInput
from ingress.api.problems import invalid, not_found
from shared.store import channel_records, stats

READ: Final = "stats:read"
LONGEST: Final = timedelta(days=31)
DEFAULT: Final = timedelta(days=1)
_POSITION: Final = TypeAdapter(stats.Position)

_CHANNEL: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4f"
_HOUR: Final = "2026-11-28T16:00:00Z"
_DAY: Final[dict[str, Any]] = {"since": "2026-11-28T00:00:00Z", "until": "2026-11-29T00:00:00Z"}
_COUNTS: Final[dict[str, Any]] = {
    "outbound": 10, "sent": 10, "delivered": 9, "read": 4, "failed": 0, "deliveryRate": 0.9, "failureRate": 0.0,
}  # fmt: skip
_TIMES: Final[dict[str, Any]] = {"replies": 7, "meanSeconds": 4.2, "medianSeconds": 3.1, "p95Seconds": 9.8}


class ProviderFigures(Part):
    provider: str
    total: int
    active: int
    escalated: int
    within_24h: int = Field(alias="within24h", description="The customer has written in the last 24 hours.")


class ProvidersFigures(Output):
    providers: list[ProviderFigures]


class RangeInput(TenantInput):
    """A range of time of at most 31 days, by default the last 24 hours."""

    since: Moment | None = Field(default=None, description="Left out: 24 hours before `until`.")
    until: Moment | None = Field(default=None, description="Left out: now.")
    channel_id: UUID | None = Field(default=None, description="Of this channel only.")


class DeliveryFigures(Part):
    channel_id: UUID | None = Field(description="null in a row of an hour.")
    hour: datetime | None = Field(description="null in a row of a channel.")
    outbound: int
    sent: int = Field(description="Accepted by the provider, whatever came later.")
    delivered: int
    read: int
    failed: int = Field(description="Failed or expired.")
    delivery_rate: float = Field(description="Delivered, of those sent; 0 where none was.")
    failure_rate: float = Field(description="Failed, of all outbound ones.")


class Deliveries(Output):
    since: datetime
    until: datetime
    channels: list[DeliveryFigures]
    hours: list[DeliveryFigures]


class ReplyFigures(Part):
    channel_id: UUID | None = Field(description="null in a row of an hour.")
    hour: datetime | None = Field(description="null in a row of a channel.")
    replies: int
    mean_seconds: float
    median_seconds: float
    p95_seconds: float


class ReplyTimes(Output):
    since: datetime
    until: datetime
    channels: list[ReplyFigures]
    hours: list[ReplyFigures]


class ClosingInput(ListInput):
    within_minutes: int = Field(default=60, ge=1, le=24 * 60)


class ClosingWindow(Part):
    conversation_id: UUID
    channel_id: UUID
    contact_id: UUID | None
    contact_name: str | None
    recipient: str
    last_user_message_at: datetime
    closes_at: datetime


class ClosingWindows(Page):
    windows: list[ClosingWindow]


class WaitingFigures(Part):
    channel_id: UUID
    held: int = Field(description="Wait for the customer to write.")
    held_since: datetime | None
    unknown: int = Field(description="The provider gave no answer: they wait for the outcome, or for a person.")
    unknown_since: datetime | None


class Waiting(Output):
    channels: list[WaitingFigures]


@query(
    "stats.providers",
    scope=READ,
    examples=[
        Example(
            {},
            {"providers": [{"provider": "twilio", "total": 12, "active": 9, "escalated": 1, "within24h": 4}]},
        )
    ],
)
async def providers(call: Call, given: TenantInput) -> ProvidersFigures:
    """Count the conversations of each provider."""
    return ProvidersFigures(
        providers=[ProviderFigures(**asdict(row)) for row in await stats.by_provider(call.connection)]
    )


@query(
    "stats.deliveries",
    scope=READ,
    examples=[
        Example(
            {**_DAY, "channelId": _CHANNEL},
            {
                **_DAY,
                "channels": [{"channelId": _CHANNEL, "hour": None, **_COUNTS}],
                "hours": [{"channelId": None, "hour": _HOUR, **_COUNTS}],
            },
        )
    ],
)
async def deliveries(call: Call, given: RangeInput) -> Deliveries:
    """Count what was sent in a range of time, and became of it, by channel and by hour (UTC)."""
    since, until = await _range(call, given)
    rows = await stats.deliveries(call.connection, call.tenant_id, since, until, given.channel_id)
    shown = [_deliveries(row) for row in rows]
    return Deliveries(
        since=since,
        until=until,
        channels=[one for one in shown if one.hour is None],
        hours=[one for one in shown if one.hour is not None],
    )


@query(
    "stats.replyTimes",
    scope=READ,
    examples=[
        Example(
            {**_DAY, "channelId": _CHANNEL},
            {
                **_DAY,
                "channels": [{"channelId": _CHANNEL, "hour": None, **_TIMES}],
                "hours": [{"channelId": None, "hour": _HOUR, **_TIMES}],
            },
        )
    ],
)
async def reply_times(call: Call, given: RangeInput) -> ReplyTimes:
    """Measure how fast customers were answered in a range of time, by channel and by hour (UTC).

    A time counts from the customer's latest message to the next one that was made for them, by the bot or by a person.
    """
    since, until = await _range(call, given)
    rows = await stats.reply_times(call.connection, call.tenant_id, since, until, given.channel_id)
    shown = [ReplyFigures(**asdict(row)) for row in rows]
    return ReplyTimes(
        since=since,
        until=until,
        channels=[one for one in shown if one.hour is None],
        hours=[one for one in shown if one.hour is not None],
    )


@query(
    "stats.windows",
    scope=READ,
    examples=[
        Example(
            {"withinMinutes": 60},
            {
                "windows": [
                    {
                        "conversationId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c50",
                        "channelId": _CHANNEL,
                        "contactId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d",
                        "contactName": "Ana",
                        "recipient": "+14155238886",
                        "lastUserMessageAt": "2026-11-27T17:00:00Z",
                        "closesAt": "2026-11-28T16:58:00Z",
                    }
                ],
                "nextCursor": None,
            },
        )
    ],
)
async def windows(call: Call, given: ClosingInput) -> ClosingWindows:
    """List the conversations whose 24-hour window closes soon, the next one first."""
    rows = await stats.closing_windows(
        call.connection,
        call.tenant_id,
        timedelta(minutes=given.within_minutes),
        cursors.position(call, given, _POSITION),
        given.limit + 1,
    )
    shown, next_cursor = cursors.page(
        call, given, rows, _POSITION, lambda row: (row.last_user_message_at, row.conversation_id)
    )
    return ClosingWindows(
        windows=[ClosingWindow(**asdict(row)) for row in shown],
        next_cursor=next_cursor,
    )


@query(
    "stats.waiting",
    scope=READ,
    examples=[
        Example(
            {},
            {"channels": [{"channelId": _CHANNEL, "held": 2, "heldSince": _HOUR, "unknown": 0, "unknownSince": None}]},
        )
    ],
)
async def waiting(call: Call, given: TenantInput) -> Waiting:
    """Count the messages that are held until their customer writes, and those whose outcome is unknown, by channel."""
    return Waiting(
        channels=[WaitingFigures(**asdict(row)) for row in await stats.waiting(call.connection, call.tenant_id)]
    )


async def _range(call: Call, given: RangeInput) -> tuple[datetime, datetime]:
    """The range of time that is asked for. Raises a Problem, also for a channel that is not there."""
    until = given.until or datetime.now(UTC)
    since = given.since or until - DEFAULT
    if since >= until:
        raise invalid("since", "It is not before `until`.", "Give an earlier time.")
    if until - since > LONGEST:
        raise invalid("since", f"The range is longer than {LONGEST.days} days.", "Ask for one part after the other.")
    named = given.channel_id
    if named is not None and await channel_records.get(call.connection, call.tenant_id, named) is None:
        raise not_found("channel", "channelId")
    return since, until


def _deliveries(row: stats.Deliveries) -> DeliveryFigures:
    return DeliveryFigures(
        channel_id=row.channel_id,
        hour=row.hour,
        outbound=row.outbound,
        sent=row.sent,
        delivered=row.delivered,
        read=row.read,
        failed=row.failed,
        delivery_rate=row.delivered / row.sent if row.sent else 0.0,
        failure_rate=row.failed / row.outbound,
    )
