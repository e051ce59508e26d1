"""campaigns: what the author writes of each, and its row. What becomes of it is in other modules of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from shared.database import Connection, new_id
from shared.domain.campaigns.life import Status
from shared.store.by_key import only_if
from shared.store.newest_first import Position, behind

RecipientType = Literal["groups", "contacts", "all", "campaign"]
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CampaignValues:
    """What its author writes of a campaign."""

    channel_id: UUID
    message_template_id: UUID | None
    name: str
    message: str | None
    recipient_type: RecipientType | None
    recipient_ids: tuple[UUID, ...]  # groups or contacts; the one campaign whose recipients are written to again
    variables: Json = field(default_factory=dict)  # of the template: name → text with placeholders
    message_data: Json = field(default_factory=dict)  # contact → facts for its placeholders
    media: Sequence[Json] = ()
    interactive: Json | None = None
    recipient_filter: Json | None = None
    settings: Json = field(default_factory=dict)
    timezone: str | None = None
    recurrence: str | None = None


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
    origin_id: UUID | None  # the campaign that this one is a run of
    frozen_at: datetime | None  # when every recipient had its row
    wave: int
    paused_reason: str | None
    paused_detail: Json | None
    progress: Json | None
    winner: int | None  # of two templates


COLUMNS: Final = """id, tenant_id, whatsapp_instance_id AS channel_id, message_template_id, name, message,
    recipient_type, recipient_ids, status, scheduled_at, started_at, completed_at, total_recipients, sent_count,
    failed_count, created_at, updated_at, deleted_at, variables, message_data, media, interactive, recipient_filter,
    settings, timezone, recurrence, origin_id, frozen_at, wave, paused_reason, paused_detail, progress, winner"""
_GET = f"SELECT {COLUMNS} FROM campaigns WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_PAGE = f"""
SELECT {COLUMNS} FROM campaigns
WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR status = $2) {behind(3)}
"""
_NAMED = f"""
SELECT {COLUMNS} FROM campaigns WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL ORDER BY id LIMIT 10
"""
_INSERT = f"""
INSERT INTO campaigns (tenant_id, id, whatsapp_instance_id, message_template_id, name, message, recipient_type,
    recipient_ids, variables, message_data, media, interactive, recipient_filter, settings, timezone, recurrence,
    origin_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) RETURNING {COLUMNS}
"""
_UPDATE = f"""
UPDATE campaigns SET whatsapp_instance_id = $3, message_template_id = $4, name = $5, message = $6, recipient_type = $7,
    recipient_ids = $8, variables = $9, message_data = $10, media = $11, interactive = $12, recipient_filter = $13,
    settings = $14, timezone = $15, recurrence = $16
WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}
"""
_DELETE = f"""
UPDATE campaigns SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {COLUMNS}
"""


async def get(connection: Connection, tenant_id: UUID, campaign_id: UUID, *, lock: bool = False) -> Campaign | None:
    """The campaign, deleted or not. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, campaign_id)
    return None if row is None else campaign_of(row)


async def page(
    connection: Connection, tenant_id: UUID, *, status: Status | None, after: Position | None, limit: int
) -> list[Campaign]:
    """Live campaigns, newest first, behind the position `after`."""
    rows = await connection.fetch(_PAGE, tenant_id, status, *(after or (None, None)), limit)
    return [campaign_of(row) for row in rows]


async def named(connection: Connection, tenant_id: UUID, name: str) -> list[Campaign]:
    """Live campaigns of this name; ten at most. It reads the tenant's campaigns: for a person who waits for it."""
    return [campaign_of(row) for row in await connection.fetch(_NAMED, tenant_id, name)]


async def insert(
    connection: Connection, tenant_id: UUID, given: CampaignValues, *, origin_id: UUID | None = None
) -> Campaign:
    """Insert a draft. Its channel and template must be the tenant's. `origin_id`: the campaign that it is a run of."""
    return campaign_of(await connection.fetchrow(_INSERT, tenant_id, new_id(), *_columns(given), origin_id))


async def update(connection: Connection, tenant_id: UUID, campaign_id: UUID, given: CampaignValues) -> Campaign:
    """Write what its author writes. The campaign must be there."""
    return campaign_of(await connection.fetchrow(_UPDATE, tenant_id, campaign_id, *_columns(given)))


async def delete(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Campaign | None:
    """Delete a campaign softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, campaign_id)
    return None if row is None else campaign_of(row)


def _columns(given: CampaignValues) -> tuple[object, ...]:
    return (
        given.channel_id, given.message_template_id, given.name, given.message, given.recipient_type,
        list(given.recipient_ids), given.variables, given.message_data, list(given.media), given.interactive,
        given.recipient_filter, given.settings, given.timezone, given.recurrence,
    )  # fmt: skip


def campaign_of(row: asyncpg.Record | None) -> Campaign:
    """The campaign that a row of COLUMNS holds."""
    assert row is not None, "the statement returns the row that it wrote"
    values = CampaignValues(
        channel_id=row["channel_id"],
        message_template_id=row["message_template_id"],
        name=row["name"],
        message=row["message"],
        recipient_type=row["recipient_type"],
        recipient_ids=tuple(row["recipient_ids"]),
        variables=row["variables"],
        message_data=row["message_data"],
        media=tuple(row["media"]),
        interactive=row["interactive"],
        recipient_filter=row["recipient_filter"],
        settings=row["settings"],
        timezone=row["timezone"],
        recurrence=row["recurrence"],
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
        origin_id=row["origin_id"],
        frozen_at=row["frozen_at"],
        wave=row["wave"],
        paused_reason=row["paused_reason"],
        paused_detail=row["paused_detail"],
        progress=row["progress"],
        winner=row["winner"],
    )
