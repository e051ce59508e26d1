"""Publishes a job for every row that is due. Several may run: each takes rows that no other one has locked.

The row's due time is the guarantee, the queued job only the fast way: after a lost publish, a killed worker or a
restarted broker, the row's due time passes and the clock publishes its job again.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Final

from shared import database
from shared.process import metrics
from shared.queue import topology
from shared.queue.connection import BrokerAway
from shared.queue.jobs import (
    AgentReportDue,
    CampaignDue,
    Job,
    MediaWanted,
    ReplyWanted,
    SendReady,
    SendRequested,
    UnknownDue,
    WebhookDue,
)
from shared.queue.worker import Loop
from workers.clock import sealing
from workers.clock.blob_cleanup import sweep_forever
from workers.clock.costs import price_forever
from workers.clock.erasing import erase_forever
from workers.clock.log_retention import retain
from workers.clock.message_retention import prune_forever
from workers.clock.tasks import TARGETS, TASKS, Ctx, Task
from workers.clock.webhook_figures import measure_forever

worker: Loop[None] = Loop(
    name="clock",
    publishes=(
        ReplyWanted,
        SendRequested,
        SendReady,
        UnknownDue,
        AgentReportDue,
        MediaWanted,
        CampaignDue,
        WebhookDue,
    ),
)

RETENTION_EVERY: Final = 3600.0  # seconds
CROWDED: Final = 50  # envelopes that wait in a queue; beyond it the clock adds none


@worker.run
async def tick_forever(ctx: Ctx) -> None:
    loops = (prune_forever, sweep_forever, erase_forever, price_forever, measure_forever)
    beside = [asyncio.create_task(one(ctx)) for one in loops]
    try:
        await _tick_forever(ctx)
    finally:
        for task in beside:
            task.cancel()


async def _tick_forever(ctx: Ctx) -> None:
    retention_at = 0.0
    while True:
        started = time.monotonic()
        for name, task in TASKS.items():
            await apart(name, run_task(name, task, ctx), ctx)
        if started >= retention_at:
            retention_at = started + RETENTION_EVERY
            await apart("retention", retain(ctx), ctx)
            await apart("endpoints", sealing.serve_every_channel(ctx), ctx)
        metrics.CLOCK_TICK.set_to_current_time()
        await asyncio.sleep(max(0.0, ctx.settings.clock_tick - (time.monotonic() - started)))


async def apart(name: str, work: Awaitable[None], ctx: Ctx) -> None:
    """Run one kind of work so that its failure does not keep the others from theirs. Raises only for an outage."""
    try:
        await work
    except Exception as error:
        if database.is_outage(error):
            raise
        ctx.log.exception("clock: one kind of work failed", what=name)


async def run_task(name: str, task: Task, ctx: Ctx) -> None:
    """Publish jobs for all rows of one kind that are due, a batch a transaction.

    A queue that is crowded gets none: it holds jobs of these rows already, and a worker that was away for an hour would
    find each of them many times over.
    """
    targets = TARGETS.get(name, ())
    while not await _crowded(targets, ctx):

        async def once() -> Sequence[Job]:
            async with ctx.transaction() as tx:
                return await task(tx, ctx)

        jobs = await database.repeat(once)
        if jobs:
            metrics.NUDGES.labels(name).inc(len(jobs))
            ctx.log.info("overdue published", what=name, count=len(jobs))
            await ctx.publish(*jobs)
        if len(jobs) < ctx.settings.clock_batch:
            return


async def _crowded(queues: Sequence[topology.WorkQueue], ctx: Ctx) -> bool:
    """Whether any of the queues is."""
    try:
        return any([await ctx.publisher.depth(queue.name) > CROWDED for queue in queues])
    except BrokerAway:
        return True  # a job could not be published either; the rows stay due
