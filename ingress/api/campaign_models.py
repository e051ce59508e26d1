"""What campaigns.* is given and answers: a campaign, and what its author writes of it."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Final, Protocol
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from ingress.api.campaign_settings_models import CampaignSettings, RecipientFilter, Recurrence, Zone
from ingress.api.models import ListInput, Name, Output, Page, Part, TenantInput, as_object
from ingress.api.send_models import MOST_FILES, Choices, FileToSend
from shared.domain.campaigns.life import Status
from shared.store.campaigns import records as store
from shared.store.campaigns.records import CampaignValues, RecipientType
from shared.store.messages.outbound_rows import media_json

MOST_RECIPIENT_IDS: Final = 200  # a larger audience is a group

Message = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
VariableName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Variables = Annotated[dict[VariableName, Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=100)]
FactName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Facts = Annotated[dict[FactName, Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=50)]
MessageData = Annotated[dict[UUID, Facts], Field(max_length=MOST_RECIPIENT_IDS)]

ID: Final = "019ac2f0-a3c4-7d49-b5d6-7f3e4d5c6b71"
INSTANCE: Final = "019ac2ef-2222-7a63-9c55-0c3a1a2b3c4d"
GROUP: Final = "019ac2f0-8a10-7b21-8f3e-5d1c2b3a4f5e"
OFFERS: Final = "Hello! Check out our new offers!"
PROMOTION: Final[dict[str, Any]] = {  # a campaign, as answers have it
    "id": ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "whatsappInstanceId": INSTANCE,
    "messageTemplateId": None,
    "name": "Q1 Promotion",
    "message": OFFERS,
    "variables": {},
    "messageData": {},
    "media": [],
    "interactive": None,
    "recipientType": "groups",
    "recipientIds": [GROUP],
    "recipientFilter": None,
    "settings": CampaignSettings().model_dump(mode="json", by_alias=True),
    "timezone": None,
    "recurrence": None,
    "originId": None,
    "status": "draft",
    "pausedReason": None,
    "pausedDetail": None,
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
    variables: dict[str, Any]
    message_data: dict[str, Any]
    media: list[FileToSend]
    interactive: Choices | None
    recipient_type: RecipientType | None
    recipient_ids: list[UUID] = Field(description="The groups or contacts that it is for.")
    recipient_filter: RecipientFilter | None
    settings: CampaignSettings | None = Field(
        description="With the defaults of what is not set; null where they were written by SQL and can't be read."
    )
    timezone: str | None = Field(description="null: the tenant's.")
    recurrence: str | None
    origin_id: UUID | None = Field(description="The campaign that this one is a run of.")
    status: Status
    paused_reason: str | None = Field(
        description="person, wave, failures, opt_outs, blocks, held, channel_stopped or template_paused."
    )
    paused_detail: dict[str, Any] | None = Field(description="The figures behind it, and `resume`: who can resume it.")
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    total_recipients: int = Field(description="Counted once it starts.")
    sent_count: int = Field(description="As of its last page; campaigns.progress is exact.")
    failed_count: int = Field(description="As sentCount.")
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, stored: store.Campaign) -> "Campaign":
        """The campaign of a row. What was written by SQL and can't be read is left out."""
        values = stored.values
        files = [_read(_FILE, one) for one in values.media]
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            whatsapp_instance_id=values.channel_id,
            message_template_id=values.message_template_id,
            name=values.name,
            message=values.message,
            variables=as_object(values.variables),
            message_data=as_object(values.message_data),
            media=[one for one in files if one is not None],
            interactive=None if values.interactive is None else _read(_CHOICES, _without_blanks(values.interactive)),
            recipient_type=values.recipient_type,
            recipient_ids=list(values.recipient_ids),
            recipient_filter=None if values.recipient_filter is None else RecipientFilter.of(values.recipient_filter),
            settings=CampaignSettings.of(values.settings),
            timezone=values.timezone,
            recurrence=values.recurrence,
            origin_id=stored.origin_id,
            status=stored.status,
            paused_reason=stored.paused_reason,
            paused_detail=None if stored.paused_detail is None else as_object(stored.paused_detail),
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


class CampaignContent(TenantInput):
    """What a draft may hold beside its name and channel."""

    message: Message | None = Field(
        default=None,
        description="The text. Give one, or a template, or both. It and variables may hold placeholders: "
        "{{contact.name}}, {{contact.metadata.KEY}}, {{data.KEY}}; with a default: {{contact.name|there}}.",
    )
    message_template_id: UUID | None = Field(default=None, description="What is sent outside the 24-hour window.")
    variables: Variables | None = Field(
        default=None, description="Of the template: name → text.", examples=[{"1": "{{contact.name|there}}"}]
    )
    message_data: MessageData | None = Field(
        default=None,
        description="Facts of single contacts: contact id → what {{data.KEY}} stands for.",
        examples=[{"019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d": {"voucher": "ANA-10"}}],
    )
    media: list[FileToSend] | None = Field(default=None, max_length=MOST_FILES, description="Sent with `message`.")
    interactive: Choices | None = Field(default=None, description="What the customer may tap below `message`.")
    recipient_type: RecipientType | None = Field(
        default=None,
        description="What recipientIds name: groups, contacts, or the one campaign whose recipients get this one too; "
        "all: every contact, without recipientIds.",
    )
    recipient_filter: RecipientFilter | None = Field(default=None, description="Which of these contacts.")
    settings: CampaignSettings | None = Field(default=None, description="All of them: one left out has its default.")
    timezone: Zone | None = Field(default=None, description="Of recurrence and schedule. null: the tenant's.")
    recurrence: Recurrence | None = Field(
        default=None,
        description="Cron, in the campaign's time zone. It then makes a campaign of its own each time, for whoever is "
        "in its groups then.",
    )


class CreateCampaign(CampaignContent):
    whatsapp_instance_id: UUID = Field(description="The channel that sends it.")
    name: Name
    recipient_ids: list[UUID] = Field(default_factory=list, max_length=MOST_RECIPIENT_IDS)


class UpdateCampaign(CampaignContent, CampaignId):
    """What is left out stays as it is. null removes a text, template, filter, recurrence, … that there is."""

    whatsapp_instance_id: UUID | None = None
    name: Name | None = None
    recipient_ids: list[UUID] | None = Field(default=None, max_length=MOST_RECIPIENT_IDS)


# What null removes. Any other field that is null stays as it is.
_REMOVABLE: Final = frozenset(
    ("message", "message_template_id", "interactive", "recipient_filter", "timezone", "recurrence")
)
_FILE: Final = TypeAdapter(FileToSend)
_CHOICES: Final = TypeAdapter(Choices)


class CheckedUrl(Protocol):
    """Returns a URL as it will be called. Raises the problem, with this path, of one that may not be."""

    def __call__(self, given: str, *path: str | int) -> str: ...


def written(given: CreateCampaign | UpdateCampaign, before: CampaignValues, checked: CheckedUrl) -> CampaignValues:
    """A campaign's values with what is given. Raises what `checked` raises."""
    changes: dict[str, Any] = {}
    for name in given.model_fields_set - {"tenant_id", "id"}:
        value = getattr(given, name)
        if value is not None or name in _REMOVABLE:
            changes["channel_id" if name == "whatsapp_instance_id" else name] = _stored(name, value, checked)
    return replace(before, **changes)


def _stored(name: str, value: Any, checked: CheckedUrl) -> Any:
    """A field as the row holds it."""
    match name:
        case "recipient_ids":
            return tuple(dict.fromkeys(value))
        case "message_data":
            return {str(contact): facts for contact, facts in value.items()}
        case "media":
            urls = [checked(one.url, "media", n, "url") for n, one in enumerate(value)]
            return tuple(media_json(one.as_media(url)) for one, url in zip(value, urls, strict=True))
        case "interactive":
            return None if value is None else asdict(value.as_interactive())
        case "settings" | "recipient_filter":
            return None if value is None else value.stored()
    return value


def _read(kind: TypeAdapter[Any], raw: object) -> Any:
    """A part of a row as the API shows it; None where it can't be read."""
    try:
        return kind.validate_python(raw, strict=False, by_name=True)
    except ValidationError:
        return None


def _without_blanks(raw: object) -> object:
    """A stored object without its empty texts, which stand for what was not given."""
    if isinstance(raw, dict):
        return {name: _without_blanks(value) for name, value in raw.items() if value != ""}
    return [_without_blanks(one) for one in raw] if isinstance(raw, (list, tuple)) else raw
