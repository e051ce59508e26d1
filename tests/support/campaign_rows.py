"""A campaign at work as rows, with recipients in the states that a test wants, and no worker beside it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared import database
from shared.store.campaigns import records
from shared.store.campaigns.records import Campaign
from tests.support.stage import Ours, Stage

_CAMPAIGN = """
INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, name, message, message_template_id, settings, status,
    started_at, frozen_at, due_at, timezone, recurrence, recipient_type)
VALUES ($1, $2, $3, 'Autumn', 'hello', $4, $5, $6, now(), now(), now(), $7, $8, 'all')
"""
_RECIPIENTS = """
WITH people AS (
    INSERT INTO contacts (id, tenant_id, name) SELECT gen_random_uuid(), $1, 'Ana' FROM generate_series(1, $3)
    RETURNING id
)
INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, status, reason, variant, queued_at)
SELECT $1, $2, id, $4, $5, $6, CASE WHEN $4 <> 'pending' THEN now() END FROM people
"""
_MOVE = """
UPDATE campaign_recipients SET status = $4, reason = $5, queued_at = coalesce(queued_at, now())
WHERE tenant_id = $1 AND id IN (
    SELECT id FROM campaign_recipients WHERE campaign_id = $2 AND status = $3 ORDER BY id LIMIT $6)
"""


async def add_campaign(
    stage: Stage,
    *,
    ours: Ours | None = None,
    settings: Mapping[str, Any] | None = None,
    template: UUID | None = None,
    status: str = "running",
    timezone: str | None = None,
    recurrence: str | None = None,
) -> UUID:
    """A campaign whose recipients are frozen, of the stage's channel unless it says otherwise; its id."""
    ours, campaign_id = ours or stage.ours, database.new_id()
    given = (template, dict(settings or {}), status, timezone, recurrence)
    await stage.pool.execute(_CAMPAIGN, campaign_id, ours.tenant_id, ours.id, *given)
    return campaign_id


async def add_template(stage: Stage, status: str = "approved", name: str = "offer") -> UUID:
    """A template of the stage's channel; its id."""
    template_id = database.new_id()
    await stage.pool.execute(
        "INSERT INTO message_templates (id, tenant_id, channel_id, name, status) VALUES ($1, $2, $3, $4, $5)",
        *(template_id, stage.ours.tenant_id, stage.ours.id, name, status),
    )
    return template_id


async def add_recipients(
    stage: Stage, campaign_id: UUID, count: int, status: str = "pending", reason: str | None = None, variant: int = 0
) -> None:
    """So many recipients in this state."""
    tenant_id = await stage.value("SELECT tenant_id FROM campaigns WHERE id = $1", campaign_id)
    await stage.pool.execute(_RECIPIENTS, tenant_id, campaign_id, count, status, reason, variant)


async def move_recipients(
    stage: Stage, campaign_id: UUID, count: int, former: str, status: str, reason: str | None = None
) -> None:
    """Move so many recipients from one state to another."""
    tenant_id = await stage.value("SELECT tenant_id FROM campaigns WHERE id = $1", campaign_id)
    await stage.pool.execute(_MOVE, tenant_id, campaign_id, former, status, reason, count)


async def campaign_of(tx: database.Connection, stage: Stage, campaign_id: UUID, *, lock: bool = False) -> Campaign:
    """The campaign's row."""
    found = await records.get(tx, stage.ours.tenant_id, campaign_id, lock=lock)
    assert found is not None
    return found
