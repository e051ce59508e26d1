"""SendAdmitted → claim → provider call → result. Palomar never sends a message twice on its own.

Neither Twilio nor Meta documents an idempotency key. So a message is claimed and the claim committed before the call,
and the result is recorded after it. A message whose result was never recorded is `unknown`: it is looked up in the
provider's list (unknown_lookup.py), and sent again only where that list does not have it.
"""

import asyncio
import random
import time
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.crypto import CryptoError
from shared.domain import consents
from shared.domain.channels import Channel
from shared.domain.model import ConsentScope, Outgoing
from shared.domain.window import Admit, decide
from shared.process import metrics
from shared.providers import provider
from shared.providers.base import Sender
from shared.queue import topology
from shared.queue.jobs import SendAdmitted
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import BulkheadFull, wait_when_full
from shared.sending.attachments import AttachmentMemoryFullError
from shared.sending.senders import CONCURRENCY, Senders, open_senders, outgoing
from shared.store import channels
from shared.store.events import Event, record
from shared.store.messages import agent_reports, outbound, sends
from shared.store.messages.outbound_rows import Outbound, send_job
from workers.send import provider_call, unknown_lookup
from workers.send.agent_reports import report

worker: Worker[SendAdmitted, Senders] = Worker(
    name="send",
    queues=topology.SEND,
    consumes=SendAdmitted,
    concurrency=CONCURRENCY,
    open=open_senders,
)

Ctx = Context[Senders]

LONGEST_RATE_WAIT = 2.0  # seconds waited in place for the channel's rate; a longer wait is a due time
LONGEST_SPREAD = 30.0  # seconds over which messages that wait for the channel's rate try again
SELDOM = timedelta(minutes=1)  # a message that waits for a place is due as if it had waited so long
LONGEST_HELP = 60.0  # seconds one delivery stays in hand for others of its channel; the broker waits half an hour


@worker.handle
async def send(admitted: SendAdmitted, ctx: Ctx) -> None:
    """Send what is ready in the conversation's lane, then what waits for a place of the same channel.

    Only one process sends from a lane at a time. Nothing is done where another one does, or the first message is not
    ready.
    """
    channel_id = await _drain(admitted, ctx)
    until = time.monotonic() + LONGEST_HELP
    bulkhead = ctx.resource.bulkhead(admitted.queue)
    while channel_id is not None and not ctx.stopping.is_set() and time.monotonic() < until:
        waiting = bulkhead.next(channel_id)
        if waiting is None:
            return
        try:
            await _drain(waiting, ctx)
        except Exception as error:  # not an error of this delivery: the other message's row has its due time
            ctx.log.warning("send of another failed", message=str(waiting.message_id), error=type(error).__name__)
            return


async def _drain(admitted: SendAdmitted, ctx: Ctx) -> UUID | None:
    """Send the ready messages of a conversation's lane in their order; returns the channel where any was sent.

    A process that stops leaves the rest of the lane to the next one: a call that is cut off would be `unknown`.
    """
    channel_id: UUID | None = None
    drained: set[UUID] = set()
    while not ctx.stopping.is_set():
        head = await sends.head(ctx.pool, admitted.tenant_id, admitted.conversation_id, admitted.lane)
        if head is None or not await _send_head(head, ctx):
            break
        drained.add(head.id)
        channel_id = head.channel_id
    if not drained:
        await unknown_lookup.look_up(admitted, ctx)
    if admitted.message_id not in drained:
        await report(admitted, ctx)
        # An operator may have replayed the job of a parked message: it becomes due again, whatever its lane waits for.
        handoff = timedelta(seconds=ctx.settings.handoff_lease)
        await sends.owe_again(ctx.pool, admitted.tenant_id, admitted.message_id, handoff)
    return channel_id


@worker.postpone
async def postpone(admitted: SendAdmitted, ctx: Ctx, wait: timedelta | None) -> None:
    """Postpone the message and its report. Not in `sending`: then its due time is the lease of its claim."""
    await outbound.postpone(ctx.pool, admitted.tenant_id, admitted.message_id, wait, of=("ready", "unknown"))
    # A report is never parked: it could not be told from one that was abandoned.
    await agent_reports.postpone(
        ctx.pool, admitted.tenant_id, admitted.message_id, provider_call.STOPPED_WAIT if wait is None else wait
    )


async def _send_head(message: Outbound, ctx: Ctx) -> bool:
    """Send the first message of a lane. False where it has to wait, or another process has the lane."""
    if message.status != "ready":
        return False
    if message.not_before is not None and message.not_before > message.now:
        return False
    channel = await channels.get(ctx.pool, message.tenant_id, message.channel_id)
    if channel is None or (message.expires_at is not None and message.expires_at <= message.now):
        async with ctx.transaction() as tx:
            return await outbound.cancel(
                tx, message.tenant_id, message.id, "channel_deleted" if channel is None else "expired"
            )
    if message.stopped_by is not None:
        async with ctx.transaction() as tx:
            return await _opted_out(tx, message, message.stopped_by)
    if channel.status == "stopped":
        await sends.postpone(ctx.pool, message.tenant_id, message.id, provider_call.STOPPED_WAIT, throttled=False)
        return False
    if not still_open(message, channel):
        async with ctx.transaction() as tx:
            return await sends.window_closed(
                tx, message.tenant_id, message.id, None, by_provider=False, code="window_closed"
            )
    try:
        with ctx.resource.bulkhead(_queue(message, channel)).acquire(channel.id):
            return await _with_sender(message, channel, ctx)
    except BulkheadFull:
        await _wait_for_bulkhead(message, channel, ctx)
        return False


def _queue(message: Outbound, channel: Channel) -> str:
    return topology.send_queue(channel.provider, message.lane).name


async def _wait_for_bulkhead(message: Outbound, channel: Channel, ctx: Ctx) -> None:
    """Remember the message for the channel's next free place in this process.

    Its due time is the fallback for a process that ends before. It is long, for many may be waiting.
    """
    queue = _queue(message, channel)
    job = send_job(message, channel.provider)
    ctx.resource.bulkhead(queue).remember(channel.id, job)  # before the first await: a call may end meanwhile
    metrics.SENDS_POSTPONED.labels(queue).inc()
    wait = wait_when_full(SELDOM)
    await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=False)


async def _with_sender(message: Outbound, channel: Channel, ctx: Ctx) -> bool:
    """Send a message with its channel's client, within the pair rate and with its attachments. False: it has to
    wait."""
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError, LookupError) as error:
        await _stop(ctx, channel, f"credentials: {error}")
        return False
    if (pair_wait := await _pair_rate_wait(message, channel, ctx)) > 0:
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=pair_wait), throttled=True)
        return False
    try:
        # Before a rate slot is reserved: a message that can't leave yet would waste it.
        async with ctx.resource.attachments.attached(channel, _leaving(message, channel, ctx)) as leaving:
            return await _at_its_rate(message, channel, sender, leaving, ctx)
    except AttachmentMemoryFullError:
        wait = wait_when_full(message.now - (message.admitted_at or message.created_at))
        await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=True)
        return False


async def _at_its_rate(message: Outbound, channel: Channel, sender: Sender, leaving: Outgoing, ctx: Ctx) -> bool:
    """Send a message in the next slot of its channel's rate. False where that is too far off."""
    wait, reserved = await ctx.resource.reserve_slot(ctx.pool, channel, LONGEST_RATE_WAIT)
    if not reserved:
        # Many may be waiting: the longer a message has waited, the less often it tries.
        waited = (message.now - (message.admitted_at or message.created_at)).total_seconds()
        wait += random.uniform(0, min(max(waited, 0.0), LONGEST_SPREAD)) - LONGEST_RATE_WAIT
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=wait), throttled=True)
        return False
    if wait > 0:
        await asyncio.sleep(wait)
    return await provider_call.claim_and_send(message, channel, sender, leaving, ctx)


async def _pair_rate_wait(message: Outbound, channel: Channel, ctx: Ctx) -> float:
    """Seconds for which a bulk message has to wait by the provider's pair rate limit: one message per recipient.

    Answers don't wait: providers let short bursts pass, and report where one was too long.
    """
    pair = provider(channel.provider).pair_interval
    if message.lane != "bulk" or not pair:
        return 0.0
    elapsed = await sends.seconds_since_last_send(ctx.pool, message)
    return 0.0 if elapsed is None else pair - elapsed


async def _opted_out(tx: database.Connection, message: Outbound, scope: ConsentScope) -> bool:
    """ready → failed: the customer has opted out since it was admitted."""
    reason = consents.REASONS[scope]
    key = (message.tenant_id, message.id)
    if not await outbound.fail(tx, *key, consents.OPTED_OUT, reason, of=("ready",)):
        return False
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    await record(tx, Event("message.failed", *about, detail={"error_code": consents.OPTED_OUT}))
    return True


def still_open(message: Outbound, channel: Channel) -> bool:
    """Whether the message may still leave in the form in which it was admitted."""
    decision = decide(
        kind=channel.kind,
        last_user_message_at=message.last_user_message_at,
        now=message.now,
        policy="fail",
        template=message.template or message.sent_as,
        refused_at=message.window_refused_at,
    )
    return isinstance(decision, Admit)


def _leaving(message: Outbound, channel: Channel, ctx: Ctx) -> Outgoing:
    leaving = outgoing(message, channel, ctx.settings.public_url)
    if channel.kind == "email" and message.lane == "bulk":
        return replace(leaving, unsubscribe=ctx.resource.unsubscribe_url(channel, message.id))
    return leaving


async def _stop(ctx: Ctx, channel: Channel, reason: str) -> None:
    async with ctx.transaction() as tx:
        if await channels.stop(tx, channel.tenant_id, channel.id, reason[:500]):
            ctx.log.error("channel stopped", channel=str(channel.id), reason=reason)
            await record(
                tx, Event("channel.stopped", channel.tenant_id, channel.id, detail={"error_code": "credentials"})
            )
