"""campaigns.*: one message to many, as a draft."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Name, Output, Page, Part, TenantInput
from ingress.api.problems import CONFLICT, VERSION_MISMATCH, FieldError, Problem, invalid, not_found, pointer
from shared.actions import campaigns
from shared.actions.campaigns import NotADraft
from shared.domain.campaigns.life import Status
from shared.store import channels, contact_records, groups, message_templates
from shared.store.campaigns import records as store
from shared.store.campaigns.records import CampaignValues, RecipientType
from shared.store.newest_first import Position

READ: Final = "campaigns:read"
WRITE: Final = "campaigns:write"
MOST_RECIPIENT_IDS: Final = 200  # a larger audience is a group
_POSITION: Final = TypeAdapter(Position)

Message = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]

_ID: Final = "019ac2f0-a3c4-7d49-b5d6-7f3e4d5c6b71"
_INSTANCE: Final = "019ac2ef-2222-7a63-9c55-0c3a1a2b3c4d"
_GROUP: Final = "019ac2f0-8a10-7b21-8f3e-5d1c2b3a4f5e"
_OFFERS: Final = "Hello! Check out our new offers!"
_PROMOTION: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "whatsappInstanceId": _INSTANCE,
    "messageTemplateId": None,
    "name": "Q1 Promotion",
    "message": _OFFERS,
    "recipientType": "groups",
    "recipientIds": [_GROUP],
    "status": "draft",
    "scheduledAt": None,
    "startedAt": None,
    "completedAt": None,
    "totalRecipients": 0,
    "sentCount": 0,
    "failedCount": 0,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
    "deletedAt": None,
}


class Campaign(Part):
    """One message to many."""

    id: UUID
    tenant_id: UUID
    whatsapp_instance_id: UUID = Field(description="The channel that sends it.")
    message_template_id: UUID | None
    name: str
    message: str | None
    recipient_type: RecipientType | None
    recipient_ids: list[UUID] = Field(description="The groups or contacts that it is for.")
    status: Status
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    total_recipients: int = Field(description="Counted once it starts.")
    sent_count: int
    failed_count: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, stored: store.Campaign) -> "Campaign":
        """The campaign of a row."""
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            whatsapp_instance_id=stored.values.channel_id,
            message_template_id=stored.values.message_template_id,
            name=stored.values.name,
            message=stored.values.message,
            recipient_type=stored.values.recipient_type,
            recipient_ids=list(stored.values.recipient_ids),
            status=stored.status,
            scheduled_at=stored.scheduled_at,
            started_at=stored.started_at,
            completed_at=stored.completed_at,
            total_recipients=stored.total_recipients,
            sent_count=stored.sent_count,
            failed_count=stored.failed_count,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            deleted_at=stored.deleted_at,
        )


class CampaignAnswer(Output):
    campaign: Campaign


class CampaignPage(Page):
    campaigns: list[Campaign]


class ListCampaigns(ListInput):
    status: Status | None = None


class CampaignId(TenantInput):
    id: UUID


class CreateCampaign(TenantInput):
    whatsapp_instance_id: UUID = Field(description="The channel that sends it.")
    name: Name
    message: Message | None = Field(default=None, description="The text. Give one, or a template, or both.")
    message_template_id: UUID | None = Field(default=None, description="What is sent outside the 24-hour window.")
    recipient_type: RecipientType | None = Field(default=None, description="Needed with `recipientIds`.")
    recipient_ids: list[UUID] = Field(default_factory=list, max_length=MOST_RECIPIENT_IDS)


class UpdateCampaign(CampaignId):
    """What is left out stays as it is."""

    whatsapp_instance_id: UUID | None = None
    name: Name | None = None
    message: Message | None = Field(default=None, description="null removes it.")
    message_template_id: UUID | None = Field(default=None, description="null removes it.")
    recipient_type: RecipientType | None = None
    recipient_ids: list[UUID] | None = Field(default=None, max_length=MOST_RECIPIENT_IDS)


@query("campaigns.list", scope=READ, examples=[Example({"limit": 1}, {"campaigns": [_PROMOTION], "nextCursor": None})])
async def list_(call: Call, given: ListCampaigns) -> CampaignPage:
    """List campaigns, newest first."""
    rows = await store.page(
        call.connection,
        call.tenant_id,
        status=given.status,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return CampaignPage(campaigns=[Campaign.of(row) for row in shown], next_cursor=next_cursor)


@query("campaigns.get", scope=READ, examples=[Example({"id": _ID}, {"campaign": _PROMOTION})])
async def get(call: Call, given: CampaignId) -> CampaignAnswer:
    """Get a campaign."""
    return CampaignAnswer(campaign=Campaign.of(await _live(call, given.id)))


@mutation(
    "campaigns.create",
    scope=WRITE,
    examples=[
        Example(
            {
                "whatsappInstanceId": _INSTANCE,
                "name": "Q1 Promotion",
                "message": _OFFERS,
                "recipientType": "groups",
                "recipientIds": [_GROUP],
            },
            {"campaign": _PROMOTION},
        )
    ],
)
async def create(call: Call, given: CreateCampaign) -> CampaignAnswer:
    """Create a campaign as a draft. Nothing is sent.

    Who is in its groups is looked up when it starts.
    """
    values = CampaignValues(
        channel_id=given.whatsapp_instance_id,
        message_template_id=given.message_template_id,
        name=given.name,
        message=given.message,
        recipient_type=given.recipient_type,
        recipient_ids=tuple(dict.fromkeys(given.recipient_ids)),
    )
    await _check(call, values, CreateCampaign.model_fields)
    return CampaignAnswer(campaign=Campaign.of(await campaigns.create(call.connection, call.tenant_id, values)))


@mutation(
    "campaigns.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "name": "Q1 Promotion"}, {"campaign": _PROMOTION})],
)
async def update(call: Call, given: UpdateCampaign) -> CampaignAnswer:
    """Change a draft. With If-Match only the version that you have seen is changed."""
    stored = await _live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    before, named = stored.values, given.model_fields_set
    values = CampaignValues(
        channel_id=given.whatsapp_instance_id or before.channel_id,
        message_template_id=given.message_template_id if "message_template_id" in named else before.message_template_id,
        name=given.name or before.name,
        message=given.message if "message" in named else before.message,
        recipient_type=given.recipient_type or before.recipient_type,
        recipient_ids=before.recipient_ids
        if given.recipient_ids is None
        else tuple(dict.fromkeys(given.recipient_ids)),
    )
    await _check(call, values, named)
    try:
        changed = await campaigns.update(call.connection, stored, values)
    except NotADraft as error:
        raise _not_a_draft(error) from None
    return CampaignAnswer(campaign=Campaign.of(changed))


@mutation(
    "campaigns.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID}, {"campaign": {**_PROMOTION, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: CampaignId) -> CampaignAnswer:
    """Delete a campaign that is not at work. Its messages stay."""
    stored = await _live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    try:
        deleted = await campaigns.delete(call.connection, stored)
    except NotADraft as error:
        raise _not_a_draft(error) from None
    return CampaignAnswer(campaign=Campaign.of(deleted))


async def _live(call: Call, campaign_id: UUID, *, lock: bool = False) -> store.Campaign:
    found = await store.get(call.connection, call.tenant_id, campaign_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("campaign")
    return found


async def _check(call: Call, values: CampaignValues, named: Collection[str]) -> None:
    """Raise the problem of a campaign that says nothing, or names something that is not there.

    `named` are the fields of the request: what stood in the campaign before is not looked up again.
    """
    connection, tenant_id = call.connection, call.tenant_id
    if values.message is None and values.message_template_id is None:
        raise invalid("message", "The campaign has neither a text nor a template.", "Give one of them.")
    if values.recipient_ids and values.recipient_type is None:
        raise invalid("recipientType", "It is missing.", "Say whether `recipientIds` are groups or contacts.")
    if "whatsapp_instance_id" in named and not await channels.lives(connection, tenant_id, values.channel_id):
        raise not_found("channel", "whatsappInstanceId")
    if "message_template_id" in named and values.message_template_id is not None:
        template = await message_templates.get(connection, tenant_id, values.message_template_id)
        if template is None or template.deleted_at is not None:
            raise not_found("message template", "messageTemplateId")
    if not {"recipient_type", "recipient_ids"}.isdisjoint(named):
        await _check_recipients(call, values)


async def _check_recipients(call: Call, values: CampaignValues) -> None:
    """Raise the problem that names the first recipient that is not there."""
    ids = values.recipient_ids
    if values.recipient_type == "groups":
        live, what = await groups.known(call.connection, call.tenant_id, ids), "group"
    else:
        known = await contact_records.known(call.connection, call.tenant_id, ids)
        live, what = {one for one in known if known[one]}, "contact"
    for place, one in enumerate(ids):
        if one not in live:
            raise not_found(what, "recipientIds", place)


def _not_a_draft(error: NotADraft) -> Problem:
    wrong = FieldError(pointer("id"), f"This campaign is {error.status}.", "Only a draft can be changed like this.")
    return Problem(CONFLICT, wrong.detail, errors=[wrong])
