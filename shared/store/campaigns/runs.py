"""campaigns: what the worker needs of a campaign at work: its turn, its next due time, its totals, its neighbours."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.campaigns.settings import TenantCampaignSettings, stored_tenant_settings
from shared.store.by_key import only_if
from shared.store.campaigns.counts import SENT, Counts, of
from shared.store.campaigns.records import COLUMNS, Campaign, campaign_of


@dataclass(frozen=True, slots=True)
class Run:
    """A campaign whose row is locked for a step. `now` is PostgreSQL's clock, at the beginning of the transaction."""

    campaign: Campaign
    now: datetime
    sent_out_at: datetime | None  # since when no recipient is pending or queued
    rate_used_to: datetime | None  # by its own rate, where it has one


# The worker may take a step: it is due, or the job has the due time that its publisher wrote. A running campaign
# without a due time was parked, and its job is replayed.
# Of a tenant's campaigns that send now, only the oldest ones may: a tenant with a thousand would have nearly all turns.
# One that waits for longer than SOON leaves its place to the next one.
AT_ONCE: Final = 16  # a process has twice as many turns
SOON: Final = timedelta(seconds=10)
_MAY_STEP: Final = f"""(due_at <= now() OR due_at = $3 OR due_at IS NULL AND status IN ('scheduled', 'running'))
    AND status IN ('scheduled', 'running', 'canceled', 'failed')
    AND (SELECT count(*) FROM (
        SELECT FROM campaigns AS older
        WHERE older.tenant_id = $1 AND older.due_at <= now() + interval '{SOON.total_seconds()} s'
            AND (older.created_at, older.id) < (campaigns.created_at, campaigns.id) LIMIT {AT_ONCE}
    ) AS those) < {AT_ONCE}"""
_CLAIM = f"""
SELECT {COLUMNS}, now() AS now, sent_out_at, rate_used_to FROM campaigns
WHERE tenant_id = $1 AND id = $2 AND {_MAY_STEP} FOR NO KEY UPDATE SKIP LOCKED
"""
_IS_DUE = f"SELECT true FROM campaigns WHERE tenant_id = $1 AND id = $2 AND {_MAY_STEP}"
# A step may have taken long: the next one is due so long after its end.
_PROCEED = """
UPDATE campaigns SET due_at = clock_timestamp() + $3::interval WHERE tenant_id = $1 AND id = $2 RETURNING due_at
"""
_TOTALS = """
UPDATE campaigns SET total_recipients = $3, sent_count = $4, failed_count = $5
WHERE tenant_id = $1 AND id = $2 AND (total_recipients, sent_count, failed_count) IS DISTINCT FROM ($3, $4, $5)
"""
_SENT_OUT = """
UPDATE campaigns SET sent_out_at = CASE WHEN $3 THEN coalesce(sent_out_at, now()) END
WHERE tenant_id = $1 AND id = $2 AND (sent_out_at IS NOT NULL) <> $3
"""
_USE_RATE = """
UPDATE campaigns SET rate_used_to = $3 WHERE tenant_id = $1 AND id = $2
"""
_POSTPONE = """
UPDATE campaigns SET due_at = now() + $3::interval
WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'running', 'canceled', 'failed') AND due_at IS NOT NULL
"""
# Those that send now. One that waits for a morning leaves its share to the others. By the index of due times: few
# campaigns are due within seconds, and a channel has had many.
_NEIGHBOURS = f"""
SELECT count(*) FROM campaigns
WHERE due_at <= now() + $3::interval AND {only_if("tenant_id = $1 AND whatsapp_instance_id = $2")}
    AND {only_if("status = 'running' AND frozen_at IS NOT NULL")}
"""
_TENANT_SETTINGS = "SELECT settings -> 'campaigns' FROM tenants WHERE id = $1"


async def claim(connection: Connection, tenant_id: UUID, campaign_id: UUID, due_at: datetime | None) -> Run | None:
    """Lock a campaign for a step; None where it is not due and has another due time than this, or is locked."""
    row = await connection.fetchrow(_CLAIM, tenant_id, campaign_id, due_at)
    return None if row is None else Run(campaign_of(row), row["now"], row["sent_out_at"], row["rate_used_to"])


async def is_due(connection: Connection | Pool, tenant_id: UUID, campaign_id: UUID, due_at: datetime | None) -> bool:
    """Whether `claim` would lock the campaign if no other session had locked it."""
    return await connection.fetchval(_IS_DUE, tenant_id, campaign_id, due_at) is not None


async def proceed(connection: Connection, run: Run, wait: timedelta | None) -> datetime | None:
    """Make the campaign's next step due after `wait`, and return when that is; None: no step is owed any more."""
    due_at: datetime | None = await connection.fetchval(_PROCEED, run.campaign.tenant_id, run.campaign.id, wait)
    return due_at


async def write_totals(connection: Connection, campaign: Campaign, counts: Counts) -> None:
    """Write the totals of the campaign's row as the counters have them."""
    totals = (sum(counts.values()), of(counts, *SENT), of(counts, "failed"))
    await connection.execute(_TOTALS, campaign.tenant_id, campaign.id, *totals)


async def use_rate(connection: Connection, campaign: Campaign, used_to: datetime) -> None:
    """Note until when the campaign's own rate is used up."""
    await connection.execute(_USE_RATE, campaign.tenant_id, campaign.id, used_to)


async def set_sent_out(connection: Connection, campaign: Campaign, sent_out: bool) -> None:
    """Note that no recipient is pending or queued, since now where that is new, or that some are again."""
    await connection.execute(_SENT_OUT, campaign.tenant_id, campaign.id, sent_out)


async def postpone(connection: Connection | Pool, tenant_id: UUID, campaign_id: UUID, wait: timedelta | None) -> None:
    """Make a campaign at work due after `wait`; None: never, until its job is replayed."""
    await connection.execute(_POSTPONE, tenant_id, campaign_id, wait)


async def neighbours(connection: Connection, tenant_id: UUID, channel_id: UUID) -> int:
    """How many campaigns of the channel want to send now; AT_ONCE of them do at most."""
    found: int = await connection.fetchval(_NEIGHBOURS, tenant_id, channel_id, SOON)
    return found


async def tenant_settings(connection: Connection, tenant_id: UUID) -> TenantCampaignSettings:
    """What the tenant has set for all its campaigns."""
    return stored_tenant_settings(await connection.fetchval(_TENANT_SETTINGS, tenant_id))
