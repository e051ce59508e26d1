"""campaigns: one message to many, and whom its author has chosen. What becomes of it is not written here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from shared.database import Connection, new_id
from shared.store.by_key import only_if
from shared.store.newest_first import Position, behind

Status = Literal["draft", "scheduled", "running", "paused", "completed", "canceled", "failed"]
RecipientType = Literal["groups", "contacts"]


@dataclass(frozen=True, slots=True)
class CampaignValues:
    """What its author writes of a campaign."""

    channel_id: UUID
    message_template_id: UUID | None
    name: str
    message: str | None
    recipient_type: RecipientType | None
    recipient_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    """A row of `campaigns`."""

    id: UUID
    tenant_id: UUID
    values: CampaignValues
    status: Status
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    total_recipients: int
    sent_count: int
    failed_count: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_COLUMNS: Final = """id, tenant_id, whatsapp_instance_id AS channel_id, message_template_id, name, message,
    recipient_type, recipient_ids, status, scheduled_at, started_at, completed_at, total_recipients, sent_count,
    failed_count, created_at, updated_at, deleted_at"""
_GET = f"SELECT {_COLUMNS} FROM campaigns WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_PAGE = f"""
SELECT {_COLUMNS} FROM campaigns
WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR status = $2) {behind(3)}
"""
_INSERT = f"""
INSERT INTO campaigns (tenant_id, id, whatsapp_instance_id, message_template_id, name, message, recipient_type,
    recipient_ids)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_COLUMNS}
"""
_UPDATE = f"""
UPDATE campaigns SET whatsapp_instance_id = $3, message_template_id = $4, name = $5, message = $6, recipient_type = $7,
    recipient_ids = $8
WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE campaigns SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {_COLUMNS}
"""


async def get(connection: Connection, tenant_id: UUID, campaign_id: UUID, *, lock: bool = False) -> Campaign | None:
    """The campaign, deleted or not. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, campaign_id)
    return None if row is None else _campaign(row)


async def page(
    connection: Connection, tenant_id: UUID, *, status: Status | None, after: Position | None, limit: int
) -> list[Campaign]:
    """Live campaigns, newest first, behind the position `after`."""
    rows = await connection.fetch(_PAGE, tenant_id, status, *(after or (None, None)), limit)
    return [_campaign(row) for row in rows]


async def insert(connection: Connection, tenant_id: UUID, given: CampaignValues) -> Campaign:
    """Insert a draft. Its channel and template must be the tenant's."""
    return _campaign(await connection.fetchrow(_INSERT, tenant_id, new_id(), *_columns(given)))


async def update(connection: Connection, tenant_id: UUID, campaign_id: UUID, given: CampaignValues) -> Campaign:
    """Write what its author writes. The campaign must be there."""
    return _campaign(await connection.fetchrow(_UPDATE, tenant_id, campaign_id, *_columns(given)))


async def delete(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Campaign | None:
    """Delete a campaign softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, campaign_id)
    return None if row is None else _campaign(row)


def _columns(given: CampaignValues) -> tuple[object, ...]:
    return (
        given.channel_id, given.message_template_id, given.name, given.message, given.recipient_type,
        list(given.recipient_ids),
    )  # fmt: skip


def _campaign(row: asyncpg.Record | None) -> Campaign:
    assert row is not None, "the statement returns the row that it wrote"
    values = CampaignValues(
        channel_id=row["channel_id"],
        message_template_id=row["message_template_id"],
        name=row["name"],
        message=row["message"],
        recipient_type=row["recipient_type"],
        recipient_ids=tuple(row["recipient_ids"]),
    )
    return Campaign(
        id=row["id"],
        tenant_id=row["tenant_id"],
        values=values,
        status=row["status"],
        scheduled_at=row["scheduled_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        total_recipients=row["total_recipients"],
        sent_count=row["sent_count"],
        failed_count=row["failed_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )
