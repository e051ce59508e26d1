"""What an import writes: rows of ours by ids that the source decided. Each insert takes a batch and returns which
of its rows are new; a row whose id or other key is there already is left as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar, Final, NewType, get_args, get_type_hints
from uuid import UUID

import asyncpg

from shared.db import Connection

Json = NewType("Json", str)  # JSON as text, so that a list of lists is no array of two dimensions
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
    secret: str  # sealed
    is_active: bool
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


# -- people ------------------------------------------------------------------------------------------------------------

_DETAILS = """
UPDATE contacts c SET is_active = told.is_active, created_at = told.created_at, deleted_at = told.deleted_at
FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::timestamptz[], $5::timestamptz[])
    AS told (tenant_id, id, is_active, created_at, deleted_at)
WHERE c.tenant_id = told.tenant_id AND c.id = told.id
"""
_REVIVE = """
UPDATE contacts c SET deleted_at = NULL FROM unnest($1::uuid[], $2::uuid[]) AS told (tenant_id, id)
WHERE c.tenant_id = told.tenant_id AND c.id = told.id AND c.deleted_at IS NOT NULL
"""
_PHONES = """
SELECT DISTINCT ON (a.contact_id) a.tenant_id, a.contact_id, a.given, a.canonical
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, contact_id)
JOIN contact_addresses a USING (tenant_id, contact_id)
WHERE a.kind = 'phone' ORDER BY a.contact_id, a.created_at, a.canonical
"""


async def tell_contacts(connection: Connection, rows: Sequence[ContactRow]) -> None:
    """What else the source knows of contacts that were just made."""
    ordered = sorted(rows, key=lambda row: (row.tenant_id, row.id))
    await connection.execute(
        _DETAILS,
        [row.tenant_id for row in ordered],
        [row.id for row in ordered],
        [row.is_active for row in ordered],
        [row.created_at for row in ordered],
        [row.deleted_at for row in ordered],
    )


async def revive_contacts(connection: Connection, keys: set[tuple[UUID, UUID]]) -> None:
    """Contacts (tenant, id) that are in use after all."""
    ordered = sorted(keys)
    await connection.execute(_REVIVE, [k[0] for k in ordered], [k[1] for k in ordered])


async def phones(connection: Connection, keys: set[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], tuple[str, str]]:
    """(tenant, contact) → their first phone number, as given and canonical."""
    ordered = sorted(keys)
    rows = await connection.fetch(_PHONES, [k[0] for k in ordered], [k[1] for k in ordered])
    return {(row["tenant_id"], row["contact_id"]): (row["given"], row["canonical"]) for row in rows}


# -- talk --------------------------------------------------------------------------------------------------------------

_BY_PLACE = """
SELECT asked.place, c.id FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[])
    AS asked (place, tenant_id, channel_id, address)
JOIN conversations c USING (tenant_id, channel_id, address)
UNION ALL
SELECT asked.place, c.id FROM unnest($1::int[], $2::uuid[], $3::uuid[], $5::text[], $6::text[])
    AS asked (place, tenant_id, channel_id, phone, provider)
JOIN conversations c USING (tenant_id, channel_id, phone, provider)
"""


async def same_conversations(connection: Connection, rows: Sequence[ConversationRow]) -> dict[UUID, UUID]:
    """Conversations of ours with the same channel and address, or number, by the id of the row that asks."""
    found = await connection.fetch(
        _BY_PLACE,
        list(range(len(rows))),
        [row.tenant_id for row in rows],
        [row.channel_id for row in rows],
        [row.address for row in rows],
        [row.phone for row in rows],
        [row.provider for row in rows],
    )
    return {rows[row["place"]].id: row["id"] for row in reversed(found)}


_SAME_SESSIONS = """
SELECT asked.place, s.id FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[])
    AS asked (place, tenant_id, channel_id, phone_number)
JOIN sessions s USING (tenant_id, channel_id, phone_number)
"""


async def same_sessions(connection: Connection, rows: Sequence[SessionRow]) -> dict[UUID, UUID]:
    """Sessions of ours with the same channel and number, by the id of the row that asks."""
    found = await connection.fetch(
        _SAME_SESSIONS,
        list(range(len(rows))),
        [row.tenant_id for row in rows],
        [row.channel_id for row in rows],
        [row.phone_number for row in rows],
    )
    return {rows[row["place"]].id: row["id"] for row in found}


_SESSIONS_OF = """
SELECT DISTINCT ON (s.conversation_id) s.conversation_id, s.id
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, conversation_id)
JOIN sessions s USING (tenant_id, conversation_id) ORDER BY s.conversation_id, s.created_at, s.id
"""


async def sessions_of(connection: Connection, keys: set[tuple[UUID, UUID]]) -> dict[UUID, UUID]:
    """Of conversations (tenant, id): conversation → its first session."""
    ordered = sorted(keys)
    rows = await connection.fetch(_SESSIONS_OF, [k[0] for k in ordered], [k[1] for k in ordered])
    return {row["conversation_id"]: row["id"] for row in rows}


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of ours that a source's messages belong to."""

    id: UUID
    tenant_id: UUID
    channel_id: UUID
    provider: str
    created_at: datetime


_TALKS = """
SELECT c.id, c.tenant_id, c.channel_id, c.provider, c.created_at
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id) JOIN conversations c USING (tenant_id, id)
ORDER BY c.tenant_id, c.id FOR NO KEY UPDATE OF c
"""
_PLACES = """
UPDATE conversations c SET next_out_seq = c.next_out_seq + told.messages
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS told (tenant_id, id, messages)
WHERE c.tenant_id = told.tenant_id AND c.id = told.id
RETURNING c.id, c.next_out_seq - told.messages AS first
"""
# The trigger counted what customers wrote as unread and unanswered. It was read, and answered or not, elsewhere.
_SETTLE = """
UPDATE conversations c SET
    unread_count = c.unread_count - told.heard,
    answered_count = c.answered_count + told.heard,
    last_message_at = greatest(c.last_message_at, told.newest)
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[]) AS told (tenant_id, id, heard, newest)
WHERE c.tenant_id = told.tenant_id AND c.id = told.id
"""
_BY_EXTERNAL = """
SELECT m.tenant_id, m.channel_id, m.external_id, m.id
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS asked (tenant_id, channel_id, external_id)
JOIN messages m USING (tenant_id, channel_id, external_id)
"""


async def lock_talks(connection: Connection, keys: set[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], Talk]:
    """Conversations by (tenant, id), locked in the order that all lock them in."""
    ordered = sorted(keys)
    rows = await connection.fetch(_TALKS, [k[0] for k in ordered], [k[1] for k in ordered])
    return {(row["tenant_id"], row["id"]): Talk(**row) for row in rows}


async def take_places(connection: Connection, wanted: dict[tuple[UUID, UUID], int]) -> dict[UUID, int]:
    """Reserve so many places in each conversation; returns conversation → the first of them."""
    ordered = sorted(wanted)
    rows = await connection.fetch(
        _PLACES, [k[0] for k in ordered], [k[1] for k in ordered], [wanted[key] for key in ordered]
    )
    return {row["id"]: row["first"] for row in rows}


async def settle(connection: Connection, told: dict[tuple[UUID, UUID], tuple[int, datetime]]) -> None:
    """After messages went in: (tenant, conversation) → how many were the customer's, and when the newest was."""
    ordered = sorted(told)
    await connection.execute(
        _SETTLE,
        [k[0] for k in ordered],
        [k[1] for k in ordered],
        [told[key][0] for key in ordered],
        [told[key][1] for key in ordered],
    )


External = tuple[UUID, UUID, str]  # tenant, channel, the provider's id


async def by_external_id(connection: Connection, keys: set[External]) -> dict[External, UUID]:
    """Messages of ours by the provider's id."""
    ordered = sorted(keys)
    rows = await connection.fetch(_BY_EXTERNAL, *([key[place] for key in ordered] for place in range(3)))
    return {(row["tenant_id"], row["channel_id"], row["external_id"]): row["id"] for row in rows}


_MEMBERS = """
SELECT g.group_id, g.contact_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS asked (tenant_id, group_id, contact_id)
JOIN group_contacts g USING (tenant_id, group_id, contact_id)
"""
_RECIPIENTS = """
SELECT r.campaign_id, r.contact_id, r.id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS asked (tenant_id, campaign_id, contact_id)
JOIN campaign_recipients r USING (tenant_id, campaign_id, contact_id)
"""
_CHANNEL = """
SELECT id FROM channels
WHERE (tenant_id, provider, kind, address) = ($1, $2, $3, $4) AND deleted_at IS NULL
"""
_STARTED = """
SELECT c.id FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id) JOIN campaigns c USING (tenant_id, id)
WHERE c.status <> 'draft'
"""

Trio = tuple[UUID, UUID, UUID]


async def members(connection: Connection, keys: set[Trio]) -> set[tuple[UUID, UUID]]:
    """Which of these (tenant, group, contact) are in: (group, contact)."""
    rows = await connection.fetch(_MEMBERS, *([key[place] for key in sorted(keys)] for place in range(3)))
    return {(row["group_id"], row["contact_id"]) for row in rows}


async def recipients(connection: Connection, keys: set[Trio]) -> dict[tuple[UUID, UUID], UUID]:
    """Of these (tenant, campaign, contact): (campaign, contact) → the recipient that is there."""
    rows = await connection.fetch(_RECIPIENTS, *([key[place] for key in sorted(keys)] for place in range(3)))
    return {(row["campaign_id"], row["contact_id"]): row["id"] for row in rows}


async def channel_at(connection: Connection, row: ChannelRow) -> UUID | None:
    """The channel in use that has this one's address."""
    found: UUID | None = await connection.fetchval(_CHANNEL, row.tenant_id, row.provider, row.kind, row.address)
    return found


async def started(connection: Connection, keys: set[tuple[UUID, UUID]]) -> set[UUID]:
    """Which of these campaigns (tenant, id) are more than drafts."""
    ordered = sorted(keys)
    return {row["id"] for row in await connection.fetch(_STARTED, [k[0] for k in ordered], [k[1] for k in ordered])}
