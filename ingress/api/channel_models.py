"""What channels.* is given and answers: a channel as a client sees it, its secrets write-only."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints

from ingress.api.models import ListInput, Name, Output, Page, Part, TenantInput
from shared.domain.model import ChannelKind
from shared.store.channel_records import ChannelRecord

MASK: Final = "••••••••"  # what stands for a secret

ProviderName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9_]+$")]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Credentials = Annotated[
    dict[Annotated[str, StringConstraints(max_length=50)], Annotated[str, StringConstraints(max_length=1000)] | None],
    Field(
        max_length=20,
        description="Of the account at the provider; channels.providers lists the fields. They are stored sealed, and "
        "never shown again.",
    ),
]
Settings = Annotated[
    dict[Annotated[str, StringConstraints(max_length=50)], Any],
    Field(max_length=20, description="Laid over those there are: objects merge, null takes back to the default."),
]


class Channel(Part):
    """A sender: a number, a messaging service, or a mailbox."""

    id: UUID
    tenant_id: UUID
    provider: str
    kind: str
    name: str
    address: str = Field(description="As the provider knows the sender.")
    business_id: str | None = Field(description="What the provider calls the business that the number belongs to.")
    is_active: bool = Field(description="Whether messages leave through it.")
    status_reason: str | None = Field(description="Why none do.")
    settings: dict[str, Any] = Field(description="Without the ones that have their default.")
    credentials: str = Field(description="Always masked.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, record: ChannelRecord) -> "Channel":
        """The channel of a row."""
        return cls(
            id=record.id,
            tenant_id=record.tenant_id,
            provider=record.provider,
            kind=record.kind,
            name=record.name,
            address=record.address,
            business_id=record.business_id,
            is_active=record.status == "active",
            status_reason=record.status_reason,
            settings=dict(record.settings),
            credentials=MASK,
            created_at=record.created_at,
            updated_at=record.updated_at,
        )


class ChannelAnswer(Output):
    channel: Channel


class ChannelPage(Page):
    channels: list[Channel]


class ListChannels(ListInput):
    provider: ProviderName | None = None
    kind: ChannelKind | None = None


class ChannelId(TenantInput):
    id: UUID


class CreateChannel(TenantInput):
    provider: ProviderName = Field(description="One of those that channels.providers lists.")
    kind: ChannelKind | None = Field(default=None, description="May be left out where the provider has one only.")
    address: Annotated[str, StringConstraints(min_length=1, max_length=320)]
    name: Name | None = None
    credentials: Credentials
    settings: Settings | None = None


class UpdateChannel(ChannelId):
    """What is left out stays as it is."""

    name: Name | None = Field(default=None, description="null removes the name.")
    settings: Settings | None = None
    is_active: bool | None = Field(default=None, description="false: no message leaves until it is true again.")


class RotateSecrets(ChannelId):
    credentials: Credentials | None = Field(default=None, description="The account's new ones. The old ones go.")
    new_url: bool = Field(
        default=False,
        description="Another secret at the end of the webhook URL, where it holds one; the one before stays good until "
        "the next rotation.",
    )


class Tested(Output):
    works: bool
    problem: str | None = Field(description="Why not, and what to do.")
    channel: Channel


class WebhookUrls(Part):
    """What is entered at the provider. Keep it secret: some URLs end with a secret."""

    messages: str | None = Field(description="null: the channel has no URL yet.")
    receipts: str | None = Field(description="Of delivery receipts; null: they come to the same.")
    chats: str | None
    verify_token: str | None = Field(description="Entered beside the URL, where the provider asks for one.")


class WebhookUrlsAnswer(Output):
    webhook_urls: WebhookUrls


class ProviderField(Part):
    name: str
    description: str
    required: bool
    secret: bool


class ProviderInfo(Part):
    name: str
    kinds: list[ChannelKind]
    fields: list[ProviderField] = Field(description="Of `credentials`.")


class Providers(Output):
    providers: list[ProviderInfo]
