"""campaigns: what a look at a campaign reads of it and writes into its row, which the caller has locked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.auto_pause import BLOCKS
from shared.store.campaigns.records import Campaign, Json

SAMPLE: Final = 1000  # failed recipients, and as many opted-out ones, whose reasons a look reads at most

_STATE = "SELECT wave, wave_ended_at, looks, clock_timestamp() AS now FROM campaigns WHERE tenant_id = $1 AND id = $2"
# The newest ones by the index of those apart: however many have failed, a look reads so many rows.
_REASONS = """
SELECT status, count(*) AS seen, count(*) FILTER (WHERE reason = ANY($4::text[])) AS blocked
FROM unnest(ARRAY['failed', 'opted_out']) AS of (status) CROSS JOIN LATERAL (
    SELECT r.reason FROM campaign_recipients AS r
    WHERE r.tenant_id = $1 AND r.campaign_id = $2 AND r.status = of.status
        AND r.status NOT IN ('pending', 'sent', 'delivered', 'read')
    ORDER BY r.id DESC LIMIT $3
) AS newest
GROUP BY status
"""
_TEMPLATES = """
SELECT name,
    CASE WHEN deleted_at IS NOT NULL THEN 'deleted' WHEN NOT is_active THEN 'inactive' ELSE status END AS status
FROM message_templates WHERE tenant_id = $1 AND id = ANY($2::uuid[])
"""
_SET_WAVE = "UPDATE campaigns SET wave = $3, wave_ended_at = $4 WHERE tenant_id = $1 AND id = $2"
_SET_LOOKS = "UPDATE campaigns SET looks = $3 WHERE tenant_id = $1 AND id = $2"
_SET_WINNER = "UPDATE campaigns SET winner = $3 WHERE tenant_id = $1 AND id = $2"
_SET_PROGRESS = "UPDATE campaigns SET progress = $3 WHERE tenant_id = $1 AND id = $2"


@dataclass(frozen=True, slots=True)
class LookState:
    """Where the looks at a campaign are."""

    wave: int  # how many have ended
    wave_ended_at: datetime | None  # None: no look at a wave is under way
    looks: Json
    now: datetime  # PostgreSQL's clock


async def state(connection: Connection, campaign: Campaign) -> LookState:
    """Where the looks at the campaign are, and PostgreSQL's time."""
    row = await connection.fetchrow(_STATE, campaign.tenant_id, campaign.id)
    assert row is not None, "the caller has locked it"
    return LookState(**row)


async def blocked(connection: Connection, campaign: Campaign, failed: int, opted_out: int) -> tuple[int, int]:
    """How many of so many failed and opted-out recipients have a reason of BLOCKS; estimated by the newest 1000."""
    rows = await connection.fetch(_REASONS, campaign.tenant_id, campaign.id, SAMPLE, sorted(BLOCKS))
    share = {row["status"]: row["blocked"] / row["seen"] for row in rows}
    return round(failed * share.get("failed", 0)), round(opted_out * share.get("opted_out", 0))


async def unusable_template(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> tuple[str, str] | None:
    """(name, state) of one of these templates that can't be sent now; None where all can."""
    rows = await connection.fetch(_TEMPLATES, tenant_id, ids)
    found = [(row["name"], row["status"]) for row in rows if row["status"] != "approved"]
    if len(rows) < len(set(ids)):
        found.append(("", "deleted"))
    return found[0] if found else None


async def set_wave(connection: Connection, campaign: Campaign, wave: int, ended_at: datetime | None) -> None:
    """Note how many waves have ended, and since when a look at the last one is under way."""
    await connection.execute(_SET_WAVE, campaign.tenant_id, campaign.id, wave, ended_at)


async def set_looks(connection: Connection, campaign: Campaign, looks: Json) -> None:
    """Note what the next look has to know."""
    await connection.execute(_SET_LOOKS, campaign.tenant_id, campaign.id, looks)


async def set_winner(connection: Connection, campaign: Campaign, winner: int) -> None:
    """Note which of two templates all the others get."""
    await connection.execute(_SET_WINNER, campaign.tenant_id, campaign.id, winner)


async def set_progress(connection: Connection, campaign: Campaign, progress: Json) -> None:
    """Note how far the campaign is, for a person who watches it."""
    await connection.execute(_SET_PROGRESS, campaign.tenant_id, campaign.id, progress)
