"""campaigns.progress, recipients and results: how far a campaign is, and what became of each recipient."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.campaign_models import ID, CampaignId
from ingress.api.declaration import Example, query, subscription
from ingress.api.models import ListInput, Output, Page, Part, as_object
from ingress.api.procedures.campaigns import READ, live
from shared.domain.campaigns.life import Status
from shared.store.campaigns import counts as counters
from shared.store.campaigns import recipients as store
from shared.store.campaigns.recipients import STATUSES, Recipient, RecipientStatus

_POSITION: Final = TypeAdapter(UUID)

_PROGRESS: Final[dict[str, Any]] = {
    "id": ID,
    "status": "running",
    "recipients": 1000,
    "isCounted": True,
    "waiting": 400,
    "counts": {
        "pending": 380, "queued": 20, "held": 0, "sent": 100, "delivered": 400, "read": 80, "replied": 10, "failed": 6,
        "skipped": 3, "optedOut": 1, "unknown": 0, "canceled": 0,
    },
    "variants": [],
    "rate": 10.0,
    "eta": "2026-11-28T16:07:00Z",
    "waitingFor": None,
    "wave": 2,
    "pausedReason": None,
    "pausedDetail": None,
    "startedAt": "2026-11-28T16:05:00Z",
    "completedAt": None,
}  # fmt: skip
_ANA: Final[dict[str, Any]] = {
    "id": "019ac2f0-b1a2-7c3d-8e4f-5a6b7c8d9e0f",
    "contactId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d",
    "name": "Ana",
    "address": "+14155238886",
    "status": "delivered",
    "reason": None,
    "errorMessage": None,
    "variant": 0,
    "messageId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c60",
    "notBefore": None,
    "queuedAt": "2026-11-28T16:05:01Z",
    "sentAt": "2026-11-28T16:05:02Z",
    "deliveredAt": "2026-11-28T16:05:04Z",
    "readAt": None,
    "repliedAt": None,
    "failedAt": None,
    "optedOutAt": None,
    "messageData": {"contact.name": "Ana"},
}


class RecipientCounts(Part):
    """Recipients by state. Each is in one."""

    pending: int
    queued: int
    held: int = Field(description="At Meta, which assesses the template's quality.")
    sent: int
    delivered: int
    read: int
    replied: int
    failed: int
    skipped: int
    opted_out: int
    unknown: int
    canceled: int

    @classmethod
    def of(cls, by_status: Mapping[str, int]) -> "RecipientCounts":
        return cls.model_validate({name: max(0, by_status.get(name, 0)) for name in STATUSES})


class VariantCounts(Part):
    """Recipients of one of two templates."""

    variant: int = Field(description="0: messageTemplateId. 1: the one of settings.comparison.")
    counts: RecipientCounts


class CampaignProgress(Output):
    """How far a campaign is."""

    id: UUID
    status: Status
    recipients: int
    is_counted: bool = Field(description="false: recipients are still being counted, and `recipients` grows.")
    waiting: int = Field(description="Of them that are pending, queued or held.")
    counts: RecipientCounts
    variants: list[VariantCounts] = Field(description="Where two templates are compared.")
    rate: float | None = Field(description="Messages a second, of the last seconds.")
    eta: datetime | None = Field(description="About when all recipients have their message.")
    waiting_for: str | None = Field(
        description="wave: for the outcomes of a wave. messaging_limit: for room in Meta's limit on recipients a day."
    )
    wave: int = Field(description="How many waves have ended.")
    paused_reason: str | None
    paused_detail: dict[str, Any] | None = Field(description="The figures behind it, and `resume`: who can resume it.")
    started_at: datetime | None
    completed_at: datetime | None


class CampaignRecipient(Output):
    """A contact of a campaign, and what became of it."""

    id: UUID
    contact_id: UUID
    name: str | None = Field(description="As it is now.")
    address: str | None = Field(description="As it was when the campaign started.")
    status: str
    reason: str | None = Field(description="Why it was skipped, failed or canceled, as a code.")
    error_message: str | None
    variant: int = Field(description="Which of two templates: 0, or 1 of settings.comparison.")
    message_id: UUID | None
    not_before: datetime | None = Field(description="It waits until then, such as for the morning.")
    queued_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    replied_at: datetime | None
    failed_at: datetime | None
    opted_out_at: datetime | None
    message_data: dict[str, Any] = Field(description="What its placeholders stand for.")

    @classmethod
    def of(cls, row: Recipient) -> "CampaignRecipient":
        """The recipient of a row. What a client wrote by SQL may hold anything where an object belongs."""
        shown = {name: getattr(row, name) for name in cls.model_fields}
        shown["message_data"] = as_object(row.message_data)
        if row.status != "pending" or row.not_before.year == 1970:
            shown["not_before"] = None
        return cls.model_validate(shown)


class CampaignRecipientPage(Page):
    recipients: list[CampaignRecipient]


class ListCampaignRecipients(CampaignId, ListInput):
    status: RecipientStatus | None = None


class ExportCampaignResults(CampaignId):
    status: RecipientStatus | None = Field(default=None, description="Only recipients in this state.")


@query("campaigns.progress", scope=READ, examples=[Example({"id": ID}, _PROGRESS)])
async def progress(call: Call, given: CampaignId) -> CampaignProgress:
    """Tell how far a campaign is: recipients by state, rate and expected end, and why it is paused.

    The counts are exact, and cost the same of a million recipients as of ten. The event campaign_progress has them too.
    """
    campaign = await live(call, given.id)
    by_state = await counters.counts(call.connection, call.tenant_id, given.id)
    by_variant: dict[int, dict[str, int]] = {}
    for (status, variant), recipients in by_state.items():
        by_variant.setdefault(variant, {})[status] = recipients
    total: dict[str, int] = {name: sum(one.get(name, 0) for one in by_variant.values()) for name in STATUSES}
    measured = as_object(campaign.progress)
    return CampaignProgress(
        id=campaign.id,
        status=campaign.status,
        recipients=sum(total.values()),
        is_counted=campaign.frozen_at is not None,
        waiting=sum(total[name] for name in store.WAITING),
        counts=RecipientCounts.of(total),
        variants=[
            VariantCounts(variant=variant, counts=RecipientCounts.of(by_variant[variant]))
            for variant in sorted(by_variant)
            if campaign.values.settings.get("comparison")
        ],
        rate=measured.get("rate"),
        eta=measured.get("eta"),
        waiting_for=measured.get("waiting_for"),
        wave=campaign.wave,
        paused_reason=campaign.paused_reason,
        paused_detail=None if campaign.paused_detail is None else as_object(campaign.paused_detail),
        started_at=campaign.started_at,
        completed_at=campaign.completed_at,
    )


@query(
    "campaigns.recipients",
    scope=READ,
    examples=[Example({"id": ID, "limit": 1}, {"recipients": [_ANA], "nextCursor": None})],
)
async def recipients(call: Call, given: ListCampaignRecipients) -> CampaignRecipientPage:
    """List a campaign's recipients with their present state.

    With a status that few recipients have, a page may hold less than `limit`, or nothing, and yet have a `nextCursor`:
    go on with it.
    """
    await live(call, given.id)
    after = cursors.position(call, given, _POSITION)
    rows, read_up_to = await store.page(call.connection, call.tenant_id, given.id, given.status, after, given.limit + 1)
    shown, next_cursor = cursors.page(
        call, given, rows, _POSITION, lambda row: store.place(row, given.status), read_up_to
    )
    return CampaignRecipientPage(recipients=[CampaignRecipient.of(row) for row in shown], next_cursor=next_cursor)


@subscription("campaigns.results", scope=READ, examples=[Example({"id": ID}, _ANA)], is_file=True)
async def results(call: Call, given: ExportCampaignResults) -> AsyncIterator[CampaignRecipient]:
    """Export a campaign's recipients with what became of each.

    REST answers it as a file: GET `/v1/campaigns/results.csv` or `results.ndjson`, a line each recipient.
    """
    async with call.transaction() as connection:
        await live(call, given.id, connection=connection)
    async for row in store.every(call.transaction, call.tenant_id, given.id, given.status):
        yield CampaignRecipient.of(row)
