"""SendAdmitted → claim → provider call → result. Palomar never sends a message twice on its own.

Neither Twilio nor Meta documents an idempotency key. So a message is claimed and the claim committed before the call,
and the result is recorded after it. A message whose result was never recorded is `unknown`: it is looked up in the
provider's list (unknown_lookup.py), and sent again only where that list does not have it.
"""

import time
from datetime import timedelta
from uuid import UUID

from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import SendAdmitted
from shared.queue.worker import Worker
from shared.resilience.bulkhead import BulkheadFull, SharedBulkhead, wait_when_full
from shared.sending.senders import CONCURRENCY
from shared.store.messages import agent_reports, outbound, sends
from workers.send import lane, unknown_lookup
from workers.send.agent_reports import report
from workers.send.gates import STOPPED_WAIT
from workers.send.resources import Ctx, Resources, open_resources

worker: Worker[SendAdmitted, Resources] = Worker(
    name="send",
    queues=topology.SEND,
    consumes=SendAdmitted,
    concurrency=CONCURRENCY,
    open=open_resources,
)

LONGEST_HELP = 60.0  # seconds one delivery stays in hand for others of its channel; the broker waits half an hour
SELDOM = timedelta(minutes=1)  # a message that waits for a place is due as if it had waited so long


@worker.handle
async def send(admitted: SendAdmitted, ctx: Ctx) -> None:
    """Send what is ready in the conversation's lane, then what waits for a place of the same channel.

    Only one process sends from a lane at a time. Nothing is done where another one does, or the first message is not
    ready.
    """
    bulkhead = ctx.resource.bulkhead(admitted.queue)
    channel_id = admitted.channel_id or admitted.tenant_id  # jobs of an older process do not name it
    try:
        # The place is kept until nothing waits for it: one that was free in between would go to a newer delivery, and
        # what waits would be read, found without a place and put back, again and again.
        with bulkhead.acquire(channel_id):
            await _drain(admitted, ctx)
            await _help(bulkhead, channel_id, ctx)
    except BulkheadFull:
        await _wait_for_place(admitted, bulkhead, channel_id, ctx)


async def _help(bulkhead: SharedBulkhead[SendAdmitted], channel_id: UUID, ctx: Ctx) -> None:
    """Send what waits for a place of the channel, as this delivery has one."""
    until = time.monotonic() + LONGEST_HELP
    while not ctx.stopping.is_set() and time.monotonic() < until:
        waiting = bulkhead.next(channel_id)
        if waiting is None:
            return
        try:
            await _drain(waiting, ctx)
        except Exception as error:  # not an error of this delivery: the other message's row has its due time
            ctx.log.warning("send of another failed", message=str(waiting.message_id), error=type(error).__name__)
            return


async def _wait_for_place(
    admitted: SendAdmitted, bulkhead: SharedBulkhead[SendAdmitted], channel_id: UUID, ctx: Ctx
) -> None:
    """Remember the message for the channel's next free place in this process.

    Its due time is the fallback for a process that ends before. It is long, for many may be waiting, and a copy of each
    job would wait too.
    """
    bulkhead.remember(channel_id, admitted)  # before the first await: a call may end meanwhile
    metrics.SENDS_POSTPONED.labels(admitted.queue).inc()
    wait = wait_when_full(SELDOM)
    if not await ctx.resource.batches(ctx).postpone(admitted.tenant_id, admitted.message_id, wait):
        await _owe_again(admitted, ctx)


async def _drain(admitted: SendAdmitted, ctx: Ctx) -> None:
    """Send the conversation's lane, and whatever else the job may be about."""
    left = await lane.drain((admitted.tenant_id, admitted.conversation_id, admitted.lane), ctx)
    if not left:
        await unknown_lookup.look_up(admitted, ctx)
    if admitted.message_id not in left:
        await report(admitted, ctx)
        await _owe_again(admitted, ctx)


async def _owe_again(admitted: SendAdmitted, ctx: Ctx) -> None:
    """An operator may have replayed the job of a parked message: it becomes due again, whatever its lane waits for."""
    handoff = timedelta(seconds=ctx.settings.handoff_lease)
    await sends.owe_again(ctx.pool, admitted.tenant_id, admitted.message_id, handoff)


@worker.postpone
async def postpone(admitted: SendAdmitted, ctx: Ctx, wait: timedelta | None) -> None:
    """Postpone the message and its report. Not in `sending`: then its due time is the lease of its claim."""
    await outbound.postpone(ctx.pool, admitted.tenant_id, admitted.message_id, wait, of=("ready", "unknown"))
    # A report is never parked: a parked one would look the same as an abandoned one.
    await agent_reports.postpone(
        ctx.pool, admitted.tenant_id, admitted.message_id, STOPPED_WAIT if wait is None else wait
    )
