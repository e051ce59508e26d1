"""The rows that an import writes: one class a table, whose fields are the columns. The source decides the ids."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, NewType
from uuid import UUID

Json = NewType("Json", str)  # JSON as text: a list of lists would be taken for an array of two dimensions
SECRET_MASK: Final = "••••••••"  # shown in place of a sealed secret: secret_mask() in SQL
TextArray = NewType("TextArray", str)  # an array of strings, as JSON text


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """Its fields are the table's columns."""

    TABLE: ClassVar[str]
    RETURNS: ClassVar[str] = "id"


@dataclass(frozen=True, slots=True)
class ConversationRow(ImportedRow):
    TABLE: ClassVar[str] = "conversations"
    id: UUID
    tenant_id: UUID
    channel_id: UUID
    contact_id: UUID | None
    provider: str
    address: str
    recipient: str
    phone: str | None
    kommo_chat_id: str | None
    contact_name: str | None
    status: str
    last_message_at: datetime
    last_user_message_at: datetime | None
    unread_count: int
    ai_context_summary: str | None
    metadata: Json
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageRow(ImportedRow):
    """`provider_timestamp` is when the customer wrote, by which their window opens."""

    TABLE: ClassVar[str] = "messages"
    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    direction: str
    role: str
    message_type: str
    content: str
    media: Json
    metadata: Json
    external_id: str | None
    provider_timestamp: datetime | None
    received_at: datetime | None
    status: str
    out_seq: int | None
    error_code: str | None
    error_message: str | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    ai_processing_status: str | None
    ai_processed_at: datetime | None
    ai_metadata: Json | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ContactRow(ImportedRow):
    """A contact that has no address."""

    TABLE: ClassVar[str] = "contacts"
    id: UUID
    tenant_id: UUID
    name: str | None
    is_active: bool
    metadata: Json
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionRow(ImportedRow):
    TABLE: ClassVar[str] = "sessions"
    id: UUID
    tenant_id: UUID
    channel_id: UUID
    conversation_id: UUID
    contact_id: UUID | None
    phone_number: str
    state: str
    context_data: Json | None
    last_message_at: datetime
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class GroupRow(ImportedRow):
    TABLE: ClassVar[str] = "groups"
    id: UUID
    tenant_id: UUID
    name: str
    description: str | None
    is_active: bool
    metadata: Json
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class GroupContactRow(ImportedRow):
    TABLE: ClassVar[str] = "group_contacts"
    RETURNS: ClassVar[str] = "group_id, contact_id"
    tenant_id: UUID
    group_id: UUID
    contact_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TemplateRow(ImportedRow):
    TABLE: ClassVar[str] = "message_templates"
    id: UUID
    tenant_id: UUID
    name: str
    content: str
    variables: Json
    is_active: bool
    metadata: Json
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class CampaignRow(ImportedRow):
    TABLE: ClassVar[str] = "campaigns"
    id: UUID
    tenant_id: UUID
    whatsapp_instance_id: UUID
    message_template_id: UUID | None
    name: str
    message: str | None
    status: str
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    total_recipients: int
    sent_count: int
    failed_count: int
    metadata: Json
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class RecipientRow(ImportedRow):
    TABLE: ClassVar[str] = "campaign_recipients"
    id: UUID
    tenant_id: UUID
    campaign_id: UUID
    contact_id: UUID
    status: str
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error_message: str | None
    message_data: Json
    metadata: Json
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class WebhookRow(ImportedRow):
    TABLE: ClassVar[str] = "webhooks"
    id: UUID
    tenant_id: UUID
    name: str
    url: str
    events: TextArray
    secret: str  # SECRET_MASK, or empty
    sealed_secret: str
    is_active: bool
    metadata: Json
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class WebhookLogRow(ImportedRow):
    TABLE: ClassVar[str] = "webhook_logs"
    id: UUID
    tenant_id: UUID
    webhook_id: UUID
    event: str
    payload: Json
    response: str | None
    status_code: int | None
    success: bool
    error_message: str | None
    attempt_count: int
    metadata: Json
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChannelRow(ImportedRow):
    """`credentials` sealed."""

    TABLE: ClassVar[str] = "channels"
    id: UUID
    tenant_id: UUID
    provider: str
    kind: str
    name: str
    address: str
    credentials: str
    settings: Json
    status: str
    status_reason: str | None
    created_at: datetime
    business_id: str | None  # Meta's
    webhook_url: str | None


@dataclass(frozen=True, slots=True)
class TenantRow(ImportedRow):
    TABLE: ClassVar[str] = "tenants"
    id: UUID
    name: str
    created_at: datetime
    settings: Json
