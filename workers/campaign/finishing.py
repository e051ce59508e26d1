"""Ends a campaign once each of its recipients has an outcome."""

from datetime import timedelta
from typing import Final

from shared.actions import campaign_life
from shared.database import Connection
from shared.domain.campaigns.settings import CampaignSettings
from shared.store.campaigns import counts, runs
from shared.store.campaigns.counts import Counts
from shared.store.campaigns.runs import Run

LEAVING_WAIT: Final = timedelta(seconds=1)  # between two looks while messages leave
OPEN_WAIT: Final = timedelta(seconds=10)  # between two looks at outcomes that the provider owes


async def finish(tx: Connection, run: Run, settings: CampaignSettings, found: Counts) -> timedelta | None:
    """Complete the campaign, none of whose recipients is pending; returns the time until the next look, None where it
    is complete.

    Messages that are held at the provider, or of unknown outcome, have `held_wait` to get one.
    """
    campaign = run.campaign
    if counts.of(found, "queued"):
        await runs.set_sent_out(tx, campaign, False)
        return LEAVING_WAIT
    await runs.set_sent_out(tx, campaign, True)
    if counts.of(found, "held", "unknown"):
        left = (run.sent_out_at or run.now) + timedelta(hours=settings.held_wait) - run.now
        if left > timedelta(0):
            return min(left, OPEN_WAIT)
    await campaign_life.complete(tx, campaign.tenant_id, campaign.id)
    await counts.fold(tx, campaign.tenant_id, campaign.id)
    return None
