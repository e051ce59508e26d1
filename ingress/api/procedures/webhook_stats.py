"""stats.webhooks: how a tenant's webhooks do."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import Moment, Output, Part, TenantInput
from ingress.api.problems import invalid
from ingress.api.procedures.stats import DEFAULT, LONGEST, READ
from shared.store.webhook_deliveries import figures

_FIGURES: Final[dict[str, Any]] = {
    "webhookId": "019ac2f0-b5d6-7e5a-86e7-803f5e6d7c82", "name": "Web shop", "isActive": True, "isFailing": False,
    "failures": 0, "disabledAt": None, "waiting": 3, "delivered": 2310, "failed": 0, "missed": 0,
    "isMore": False,
}  # fmt: skip


class WebhookRange(TenantInput):
    """A range of time of at most 31 days, by default the last 24 hours."""

    since: Moment | None = Field(default=None, description="Left out: 24 hours before `until`.")
    until: Moment | None = Field(default=None, description="Left out: now.")


class WebhookFigures(Part):
    webhook_id: UUID
    name: str
    is_active: bool
    is_failing: bool = Field(description="Its last four attempts or more have failed, and it is still tried.")
    failures: int = Field(description="Attempts in a row that have failed.")
    disabled_at: datetime | None = Field(description="When Palomar stopped to deliver; null: it delivers.")
    waiting: int = Field(description="Deliveries that wait now; at least so many where it is the most that is counted.")
    delivered: int
    failed: int = Field(description="All attempts failed.")
    missed: int = Field(description="They happened while it was disabled. webhooks.recover sends them.")
    is_more: bool = Field(
        description=f"Only the newest are counted, for there are more. Of a tenant's webhooks together "
        f"{figures.MOST_COUNTED:,} deliveries are, of each at least {figures.LEAST_COUNTED:,}. Ask for a shorter time."
    )


class WebhooksFigures(Output):
    since: datetime
    until: datetime
    failing: int = Field(description="How many webhooks fail.")
    disabled: int = Field(description="How many webhooks Palomar has disabled.")
    webhooks: list[WebhookFigures] = Field(description="Each webhook, with its deliveries of events in this time.")


@query(
    "stats.webhooks",
    scope=READ,
    examples=[
        Example(
            {"since": "2026-11-28T00:00:00Z", "until": "2026-11-29T00:00:00Z"},
            {
                "since": "2026-11-28T00:00:00Z",
                "until": "2026-11-29T00:00:00Z",
                "failing": 0,
                "disabled": 0,
                "webhooks": [_FIGURES],
            },
        )
    ],
)
async def webhooks(call: Call, given: WebhookRange) -> WebhooksFigures:
    """Count the deliveries of each webhook in a range of time, and say which webhooks fail or are disabled."""
    until = given.until or datetime.now(UTC)
    since = given.since or until - DEFAULT
    if since >= until:
        raise invalid("since", "It is not before `until`.", "Give an earlier time.")
    if until - since > LONGEST:
        raise invalid("since", f"The range is longer than {LONGEST.days} days.", "Ask for one part after the other.")
    rows = await figures.of_tenant(call.connection, call.tenant_id, since, until)
    return WebhooksFigures(
        since=since,
        until=until,
        failing=sum(row.is_failing for row in rows),
        disabled=sum(row.disabled_at is not None for row in rows),
        webhooks=[WebhookFigures(**{name: getattr(row, name) for name in WebhookFigures.model_fields}) for row in rows],
    )
