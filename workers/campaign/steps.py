"""The next step of a campaign, by its state: start, freeze, look, make a page of messages, end, or clear up."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.actions import campaign_forms as forms
from shared.actions import campaign_life
from shared.database import Connection
from shared.domain.campaigns.settings import stored_settings
from shared.domain.channels import UNREAD_WAIT
from shared.queue.jobs import SendReady
from shared.queue.worker import Context
from shared.store import channels
from shared.store.campaigns import cancellation, counts, pages, runs
from shared.store.campaigns.life import Pause
from shared.store.campaigns.runs import Run
from workers.campaign import finishing, freezing, looks, scheduling
from workers.campaign.messages import Page
from workers.campaign.pages import make_page

AT_ONCE: Final = 2000  # recipients that one step leaves out
AT_ONCE_CANCELED: Final = 500  # messages; each moves its recipient
SENDING_WAIT: Final = timedelta(seconds=3)  # for messages that are being sent while their campaign is canceled


@dataclass(frozen=True, slots=True)
class Following:
    """What follows a step: jobs to publish after the commit, and the time until the next step. None: none is owed."""

    wait: timedelta | None
    jobs: tuple[SendReady, ...] = ()


NOW: Final = Following(timedelta(0))
NEVER: Final = Following(None)


async def step(tx: Connection, run: Run, ctx: Context[None]) -> Following:
    """Take the next step of a campaign whose row is locked."""
    campaign = run.campaign
    if campaign.status in ("canceled", "failed"):
        return await _clear(tx, run)
    if campaign.status == "scheduled":
        tenant = await runs.tenant_settings(tx, campaign.tenant_id)
        return Following(await scheduling.begin(tx, campaign, tenant, run.now))
    channel = await channels.get(tx, campaign.tenant_id, campaign.values.channel_id)
    if channel is None:
        return await _fail(tx, run, Pause("channel_deleted", {}))
    try:
        settings = stored_settings(campaign.values.settings)
    except ValueError:  # of a newer version: a process that can read them goes on
        return Following(UNREAD_WAIT)
    tenant = await runs.tenant_settings(tx, campaign.tenant_id)
    try:
        if campaign.frozen_at is None:
            await freezing.freeze_page(tx, campaign, channel, tenant)
            return NOW
    except ValueError as error:  # what it says can't be read: its author can't change it any more
        return await _fail(tx, run, Pause("unreadable", {"error": str(error)[:500]}))
    found = await counts.counts(tx, campaign.tenant_id, campaign.id)
    await runs.write_totals(tx, campaign, found)
    look = await looks.look(tx, campaign, channel, found)
    if isinstance(look, looks.Stop):
        await campaign_life.pause(tx, campaign.tenant_id, campaign.id, look.pause)
        return NEVER
    if counts.of(found, "pending") == 0:
        return Following(await finishing.finish(tx, run, settings, found))
    ends_at = settings.ends_at if settings.at_end == "expire" else None
    if ends_at is not None and ends_at <= run.now:
        await pages.leave_out_pending(tx, campaign.tenant_id, campaign.id, "skipped", "expired", AT_ONCE)
        return NOW
    if isinstance(look, looks.Wait):
        wait = max(min(look.until, ends_at or look.until) - run.now, timedelta(0))
        return Following(min(wait, finishing.LEAVING_WAIT) if counts.of(found, "queued") else wait)
    says = await forms.of(tx, campaign, channel, settings, look.winner)
    if says is None:
        await campaign_life.pause(tx, campaign.tenant_id, campaign.id, forms.GONE)
        return NEVER
    handoff = timedelta(seconds=ctx.settings.handoff_lease)
    page = Page(run, channel, settings, tenant, says, handoff)
    wait, jobs = await make_page(tx, page, counts.of(found, "queued"), look.most)
    return Following(wait, jobs)


async def _fail(tx: Connection, run: Run, why: Pause) -> Following:
    await campaign_life.fail(tx, run.campaign.tenant_id, run.campaign.id, why)
    return NOW


async def _clear(tx: Connection, run: Run) -> Following:
    """Cancel some of what a campaign that has ended early leaves: messages first, as they are what could leave."""
    campaign = run.campaign
    key = (campaign.tenant_id, campaign.id, f"campaign_{campaign.status}")
    done = await cancellation.cancel_messages(tx, *key, AT_ONCE_CANCELED)
    done += await cancellation.cancel_pending(tx, *key, AT_ONCE)
    found = await counts.counts(tx, campaign.tenant_id, campaign.id)
    await runs.write_totals(tx, campaign, found)
    if counts.of(found, "pending", "queued"):
        return NOW if done else Following(SENDING_WAIT)
    await runs.proceed(tx, run, None)
    await counts.fold(tx, campaign.tenant_id, campaign.id)
    return NEVER
