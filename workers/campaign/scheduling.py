"""Starts a scheduled campaign whose time has come; a recurring one makes a campaign of its own for each time."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.actions import campaign_checks, campaign_life, campaigns
from shared.database import Connection
from shared.domain.campaigns import recurrence
from shared.domain.campaigns.settings import TenantCampaignSettings, stored_settings, zone_of
from shared.store import channels
from shared.store.campaigns.life import Pause
from shared.store.campaigns.records import Campaign

_AT_ONCE: Final = timedelta(0)


async def begin(tx: Connection, campaign: Campaign, tenant: TenantCampaignSettings, now: datetime) -> timedelta:
    """Start what is due, in the transaction that has locked the campaign's row; returns the time until its next step.

    Times that were missed make one run. The run is there, and the campaign due for the next one, or neither is: so
    each time has one run, wherever a worker dies. The clock publishes the run's job.
    """
    if campaign.values.recurrence is None:
        await _start(tx, campaign, now)
        return _AT_ONCE
    try:
        zone = zone_of(campaign.values.timezone, tenant)
        following = recurrence.next_run(campaign.values.recurrence, zone, now)
        ends_at = stored_settings(campaign.values.settings).ends_at
    except (ValueError, KeyError) as error:  # as written by SQL
        await campaign_life.fail(tx, campaign.tenant_id, campaign.id, Pause("recurrence", {"error": str(error)[:200]}))
        return _AT_ONCE
    if ends_at is not None and ends_at <= now:
        await campaign_life.cancel(tx, campaign.tenant_id, campaign.id)
        return _AT_ONCE
    name = f"{campaign.values.name} {now.astimezone(zone):%Y-%m-%d %H:%M}"
    run = await campaigns.create(
        tx, campaign.tenant_id, replace(campaign.values, name=name, recurrence=None), origin_id=campaign.id
    )
    await _start(tx, run, now)
    await campaign_life.schedule(tx, campaign.tenant_id, campaign.id, following)
    return following - now


async def _start(tx: Connection, campaign: Campaign, now: datetime) -> None:
    """Start it, unless its template or its recipients are gone since it was scheduled: then it fails, with the reason.

    One whose channel is stopped starts: the next look pauses it until the channel is resumed.
    """
    channel = await channels.get(tx, campaign.tenant_id, campaign.values.channel_id)
    wrongs = await campaign_checks.wrongs(tx, campaign, channel, now)
    lacking = [one for one in wrongs if channel is None or one.field != ("whatsapp_instance_id",)]
    if not lacking or campaign.status == "draft":  # a run of a recurring one has not been scheduled itself
        await campaign_life.start(tx, campaign.tenant_id, campaign.id)
    if lacking:
        detail = {"field": ".".join(lacking[0].field), "reason": lacking[0].reason, "remedy": lacking[0].remedy}
        await campaign_life.fail(tx, campaign.tenant_id, campaign.id, Pause("not_ready", detail))
