"""campaigns: moves a campaign from state to state, and finds those that are due. Every move is a compare-and-set."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.life import MOVES, Step
from shared.queue.jobs import CampaignDue
from shared.store import turns
from shared.store.campaigns.records import COLUMNS, Campaign, Json, campaign_of


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a campaign pauses: a code, and the figures behind it. A person's has the code `person`."""

    reason: str
    detail: Json


# `due_at`: the worker's next step. A state in which none is owed has none.
_MOVE: Final = f"""
UPDATE campaigns SET status = $4, due_at = $5, scheduled_at = CASE WHEN $4 = 'scheduled' THEN $5 ELSE scheduled_at END,
    started_at = CASE WHEN $4 = 'running' THEN coalesce(started_at, now()) ELSE started_at END,
    completed_at = CASE WHEN $4 IN ('completed', 'canceled', 'failed') THEN now() ELSE completed_at END,
    paused_reason = $6, paused_detail = $7
WHERE tenant_id = $1 AND id = $2 AND status = ANY($3::text[]) AND deleted_at IS NULL
RETURNING {COLUMNS}
"""

# Those that are due, for the clock: it publishes their job. FOR NO KEY UPDATE: as the worker locks them.
_DUE = """
UPDATE campaigns SET due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM campaigns
    WHERE due_at <= now() AND status IN ('scheduled', 'running', 'canceled', 'failed')
    ORDER BY due_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING tenant_id, id, due_at
"""

# Messages that have waited for their campaign: it goes on. What is queued of a campaign is a few seconds' worth.
_MESSAGES_DUE = """
UPDATE messages AS m SET due_at = now(), not_before = NULL
FROM campaign_recipients AS r
WHERE r.tenant_id = $1 AND r.campaign_id = $2 AND r.status = 'queued'
    AND m.tenant_id = $1 AND m.id = r.message_id AND CASE WHEN m.status = 'ready' THEN true ELSE false END
"""


async def move(
    connection: Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    step: Step,
    *,
    due_at: datetime | None,
    pause: Pause | None = None,
) -> Campaign | None:
    """Take a step from any of the states that it leads on from; None where the campaign is in none of these."""
    leads = MOVES[step]
    row = await connection.fetchrow(
        _MOVE,
        tenant_id,
        campaign_id,
        sorted(leads.start),
        leads.end,
        due_at,
        None if pause is None else pause.reason,
        None if pause is None else pause.detail,
    )
    return None if row is None else campaign_of(row)


async def wait_for_claims(connection: Connection, campaign_id: UUID) -> None:
    """Wait until every claim of a message of the campaign has ended; the next ones wait for this transaction.

    campaign_sends (0052_campaigns.sql) takes the same lock, shared, by the same name.
    """
    await turns.take(connection, f"campaign {campaign_id}")


async def make_messages_due(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> None:
    """Make the campaign's messages that are ready due at once."""
    await connection.execute(_MESSAGES_DUE, tenant_id, campaign_id)


async def due(connection: Connection, lease: timedelta, limit: int) -> Sequence[CampaignDue]:
    """The jobs of campaigns whose next step is due; each is due again a lease later."""
    rows = await connection.fetch(_DUE, lease, limit)
    return [CampaignDue(tenant_id=row["tenant_id"], campaign_id=row["id"], due_at=row["due_at"]) for row in rows]
