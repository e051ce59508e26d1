"""SendReady → claim → provider call → result. Palomar never sends a message twice on its own.

UnknownDue → the provider's list → `sent`, or the channel's policy. AgentReportDue → the status of an agent's message.

Neither Twilio nor Meta documents an idempotency key. So a message is claimed and the claim committed before the call,
and the result is recorded after it. A message whose result was never recorded is `unknown`: it is looked up in the
provider's list (unknown_lookup.py), and sent again only where that list does not have it.
"""

import time
from datetime import timedelta
from uuid import UUID

from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import AgentReportDue, SendJob, SendReady, UnknownDue
from shared.queue.worker import Worker
from shared.resilience.bulkhead import BulkheadFull, SharedBulkhead, wait_when_full
from shared.sending.senders import CONCURRENCY
from shared.store.messages import agent_reports, outbound, sends
from workers.send import lane, unknown_lookup
from workers.send.agent_reports import report
from workers.send.gates import STOPPED_WAIT
from workers.send.resources import Ctx, Resources, open_resources

worker: Worker[SendJob, Resources] = Worker(
    name="send",
    queues=topology.SEND,
    consumes=(SendReady, UnknownDue, AgentReportDue),
    concurrency=CONCURRENCY,
    open=open_resources,
)

LONGEST_HELP = 60.0  # seconds one delivery stays in hand for others of its channel; the broker waits half an hour
SELDOM = timedelta(minutes=1)  # a message that waits for a place is due as if it had waited so long


@worker.handle
async def send(job: SendJob, ctx: Ctx) -> None:
    """Do what the job says in a place of its channel's, then what waits for one."""
    bulkhead = ctx.resource.bulkhead(job.queue)
    channel_id = job.channel_id or job.tenant_id  # jobs of an older process do not name it
    try:
        # The place is kept until nothing waits for it: one that was free in between would go to a newer delivery, and
        # what waits would be read, found without a place and put back, again and again.
        with bulkhead.acquire(channel_id):
            await _act(job, ctx)
            await _help(bulkhead, channel_id, ctx)
    except BulkheadFull:
        await _wait_for_place(job, bulkhead, channel_id, ctx)


async def _help(bulkhead: SharedBulkhead[SendJob], channel_id: UUID, ctx: Ctx) -> None:
    """Send what waits for a place of the channel, as this delivery has one."""
    until = time.monotonic() + LONGEST_HELP
    while not ctx.stopping.is_set() and time.monotonic() < until:
        waiting = bulkhead.next(channel_id)
        if waiting is None:
            return
        try:
            await _act(waiting, ctx)
        except Exception as error:  # not an error of this delivery: the other message's row has its due time
            ctx.log.warning("send of another failed", message=str(waiting.message_id), error=type(error).__name__)
            return


async def _wait_for_place(job: SendJob, bulkhead: SharedBulkhead[SendJob], channel_id: UUID, ctx: Ctx) -> None:
    """Remember the job for the channel's next free place in this process.

    Its row's due time is the fallback for a process that ends before. It is long, for many may be waiting, and a copy
    of each job would wait too.
    """
    bulkhead.remember(channel_id, job)  # before the first await: a call may end meanwhile
    metrics.SENDS_POSTPONED.labels(job.queue).inc()
    if isinstance(job, AgentReportDue):
        return  # due again after the clock's lease, and never parked
    batches, wait = ctx.resource.batches(ctx), wait_when_full(SELDOM)
    if isinstance(job, UnknownDue) or not await batches.postpone(job.tenant_id, job.message_id, wait):
        await _owe_again(job, ctx)


async def _act(job: SendJob, ctx: Ctx) -> None:
    """What the job says; nothing where it is done, or another process does it."""
    match job:
        case SendReady():
            await _send_lane(job, ctx)
        case UnknownDue():
            await unknown_lookup.look_up(job, ctx)
        case AgentReportDue():
            await report(job, ctx)


async def _send_lane(ready: SendReady, ctx: Ctx) -> None:
    """Send the conversation's lane, from which only one process sends at a time."""
    left = await lane.drain((ready.tenant_id, ready.conversation_id, ready.lane), ctx)
    if ready.message_id not in left:
        await _owe_again(ready, ctx)


async def _owe_again(job: SendJob, ctx: Ctx) -> None:
    """An operator may have replayed the job of a parked message: it becomes due again, whatever its lane waits for."""
    handoff = timedelta(seconds=ctx.settings.handoff_lease)
    await sends.owe_again(ctx.pool, job.tenant_id, job.message_id, handoff)


@worker.postpone
async def postpone(job: SendJob, ctx: Ctx, wait: timedelta | None) -> None:
    """Postpone what the job is about. Not a message in `sending`: then its due time is the lease of its claim."""
    match job:
        case SendReady():
            await outbound.postpone(ctx.pool, job.tenant_id, job.message_id, wait, of=("ready",))
        case UnknownDue():
            await outbound.postpone(ctx.pool, job.tenant_id, job.message_id, wait, of=("unknown",))
        case AgentReportDue():
            # Never parked: a parked report would look the same as an abandoned one.
            again = STOPPED_WAIT if wait is None else wait
            await agent_reports.postpone(ctx.pool, job.tenant_id, job.message_id, again)
