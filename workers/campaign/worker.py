"""CampaignDue → recipients frozen, messages made page by page, the end → SendReady.

The campaign's row is the promise: `due_at`. A step is one transaction that locks the row, does one bounded piece of
work and moves `due_at` on by a lease. A process that is killed between two steps costs the campaign that lease.
"""

import asyncio
import time
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from shared import database
from shared.queue import topology
from shared.queue.jobs import CampaignDue, SendReady
from shared.queue.worker import Context, Worker
from shared.store.campaigns import runs
from workers.campaign.steps import Following, step

worker: Worker[CampaignDue, None] = Worker(
    name="campaign",
    queues=(topology.CAMPAIGN,),
    consumes=(CampaignDue,),
    publishes=(SendReady,),  # and CampaignDue: into its own queue, behind the other campaigns
    concurrency=32,  # campaigns at once; most of their time they wait for the next page
)

TURN: Final = 2.0  # seconds that one campaign has before the next ones in the queue
LEASE: Final = timedelta(seconds=5)
LOCKED_WAIT: Final = 0.1  # seconds until the next look at a row that another session has locked


@worker.handle
async def work(due: CampaignDue, ctx: Context[None]) -> None:
    """Take steps until the turn is over, the campaign waits for longer than a turn, or nothing is left to do."""
    turn_ends = time.monotonic() + TURN
    due_at = due.due_at
    while not ctx.stopping.is_set() and time.monotonic() < turn_ends:
        began = time.monotonic()
        taken = await database.repeat(partial(_step, due, due_at, ctx))
        if taken is None:
            if not await runs.is_due(ctx.pool, due.tenant_id, due.campaign_id, due_at):
                return  # it is in other hands, or at its end
            await asyncio.sleep(LOCKED_WAIT)
            continue
        following, due_at = taken
        await ctx.publish(*following.jobs)
        if following.wait is None or following.wait.total_seconds() > TURN:
            return  # the clock publishes it when it is due
        await asyncio.sleep(max(0.0, began + following.wait.total_seconds() - time.monotonic()))
    await ctx.publish(due.model_copy(update={"due_at": due_at}))


async def _step(
    due: CampaignDue, due_at: datetime | None, ctx: Context[None]
) -> tuple[Following, datetime | None] | None:
    """Take a step in a transaction; returns what follows, and the row's due time since. None: it is not to be had."""
    async with ctx.transaction() as tx:
        run = await runs.claim(tx, due.tenant_id, due.campaign_id, due_at)
        if run is None:
            return None
        following = await step(tx, run, ctx)
        if following.wait is None:
            return following, None
        short = following.wait.total_seconds() <= TURN
        return following, await runs.proceed(tx, run, LEASE if short else following.wait)


@worker.postpone
async def postpone(due: CampaignDue, ctx: Context[None], wait: timedelta | None) -> None:
    await runs.postpone(ctx.pool, due.tenant_id, due.campaign_id, wait)
