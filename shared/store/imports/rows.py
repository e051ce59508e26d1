"""What an import writes: rows of ours by ids that the source decided. Each insert takes a batch and returns which
of its rows are new; a row whose id or other key is there already is left as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar, Final, NewType, get_args, get_type_hints
from uuid import UUID

import asyncpg

from shared.database import Connection

Json = NewType("Json", str)  # JSON as text, so that a list of lists is no array of two dimensions
SECRET_MASK: Final = "••••••••"  # what a secret that is sealed reads back as: secret_mask() in SQL
TextArray = NewType("TextArray", str)  # the same of an array of strings

_TYPES: Final[dict[object, str]] = {
    UUID: "uuid", str: "text", datetime: "timestamptz", int: "bigint", bool: "boolean", Json: "text", TextArray: "text"
}  # fmt: skip


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
    """A person without any address."""

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


def _statement(kind: type[ImportedRow]) -> str:
    """One INSERT of a batch: an array for each column."""
    columns: list[str] = []
    places: list[str] = []
    values: list[str] = []
    for name, annotation in _columns(kind).items():
        columns.append(name)
        places.append(f"${len(places) + 1}::{_TYPES[annotation]}[]")
        value = f"new.{name}"
        if annotation is Json:
            value += "::jsonb"
        elif annotation is TextArray:
            value = f"ARRAY(SELECT jsonb_array_elements_text({value}::jsonb))"
        values.append(value)
    return (
        f"INSERT INTO {kind.TABLE} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM unnest({', '.join(places)}) AS new ({', '.join(columns)}) "
        f"ON CONFLICT DO NOTHING RETURNING {kind.RETURNS}"
    )


def _columns(kind: type[ImportedRow]) -> dict[str, object]:
    """Column → its type, None aside."""
    hints = get_type_hints(kind)
    return {field.name: (get_args(hints[field.name]) or (hints[field.name],))[0] for field in fields(kind)}


_STATEMENTS: Final[dict[str, str]] = {}  # by table, made when first needed


async def insert(connection: Connection, rows: Sequence[ImportedRow]) -> set[UUID]:
    """Insert rows of one kind; returns the ids of those that are new."""
    return {row[0] for row in await _insert(connection, rows)}


async def insert_members(connection: Connection, rows: Sequence[GroupContactRow]) -> set[tuple[UUID, UUID]]:
    """Put contacts into groups; returns the (group, contact) that are new."""
    return {(row[0], row[1]) for row in await _insert(connection, rows)}


async def _insert(connection: Connection, rows: Sequence[ImportedRow]) -> Sequence[asyncpg.Record]:
    if not rows:
        return []
    kind = type(rows[0])
    columns = [[getattr(row, name) for row in rows] for name in _columns(kind)]
    if kind.TABLE not in _STATEMENTS:
        _STATEMENTS[kind.TABLE] = _statement(kind)
    return await connection.fetch(_STATEMENTS[kind.TABLE], *columns)
