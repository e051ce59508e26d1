"""SendAdmitted → claim → provider call → what came of it. At most once by itself.

Neither Twilio nor Meta documents an idempotency key. So a message is claimed, committed, called, recorded; and what
happened between the claim and a record that never came is `unknown`, looked up, and sent anew only where the provider's
list has it not (resolving.py).
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
from shared.providers import traits
from shared.providers.base import Sender
from shared.queue import topology
from shared.queue.jobs import SendAdmitted
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import NoPlaceError, wait_for_place
from shared.sending.attachments import AttachmentMemoryFullError
from shared.sending.senders import CONCURRENCY, Senders, open_senders, outgoing
from shared.store import channels
from shared.store.events import Event, record
from shared.store.messages import agent_reports, outbound, sends
from shared.store.messages.outbound_rows import Outbound
from workers.send import agent_reports as reporting
from workers.send import provider_call, unknown_lookup

worker: Worker[SendAdmitted, Senders] = Worker(
    name="send",
    queues=topology.SEND,
    consumes=SendAdmitted,
    concurrency=CONCURRENCY,
    open=open_senders,
)

Ctx = Context[Senders]

LONGEST_RATE_WAIT = 2.0  # seconds waited in place for the channel's rate; a longer wait is a due time
LONGEST_SPREAD = 30.0  # seconds over which those that wait for the channel's rate ask for it again
SELDOM = timedelta(minutes=1)  # as if it had waited so long, what waits for a place asks again
LONGEST_HELP = 60.0  # seconds one delivery stays in hand for others of its channel; the broker waits half an hour


@worker.handle
async def send(admitted: SendAdmitted, ctx: Ctx) -> None:
    """Whoever holds the lane drains it; who finds it held, or its head not ready, has nothing to do.

    Then the channel's place is free, and what waits for one is next.
    """
    channel_id = await _drain(admitted, ctx)
    until = time.monotonic() + LONGEST_HELP
    lane = ctx.resource.lane(admitted.queue)
    while channel_id is not None and not ctx.stopping.is_set() and time.monotonic() < until:
        waiting = lane.next(channel_id)
        if waiting is None:
            return
        try:
            await _drain(waiting, ctx)
        except Exception as error:  # not this delivery's: the row of what failed has its due time
            ctx.log.warning("send of another failed", message=str(waiting.message_id), error=type(error).__name__)
            return


async def _drain(admitted: SendAdmitted, ctx: Ctx) -> UUID | None:
    """Send what the lane of a conversation holds; returns its channel where something was sent.

    At a stop the rest of the lane is left to whoever is nudged next: a call cut off later would be `unknown`.
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
        await reporting.report(admitted, ctx)
        # An operator may have replayed it, with no due time: whatever its lane waits for, it is owed again.
        handoff = timedelta(seconds=ctx.settings.handoff_lease)
        await sends.owe_again(ctx.pool, admitted.tenant_id, admitted.message_id, handoff)
    return channel_id


@worker.put_off
async def put_off(admitted: SendAdmitted, ctx: Ctx, wait: timedelta | None) -> None:
    """Never one in `sending`, whose due time is the lease of its claim."""
    await outbound.postpone(ctx.pool, admitted.tenant_id, admitted.message_id, wait, of=("ready", "unknown"))
    # A report is never set aside: nothing would tell it from one that was given up.
    await agent_reports.postpone(
        ctx.pool, admitted.tenant_id, admitted.message_id, provider_call.STOPPED_WAIT if wait is None else wait
    )


async def _send_head(message: Outbound, ctx: Ctx) -> bool:
    """Send the first message of a lane. False where the lane is blocked, or somebody else's."""
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
        with ctx.resource.lane(_queue(message, channel)).held(channel.id):
            return await _with_sender(message, channel, ctx)
    except NoPlaceError:
        await _wait_for_place(message, channel, ctx)
        return False


def _queue(message: Outbound, channel: Channel) -> str:
    return topology.send_queue(channel.provider, message.lane).name


async def _wait_for_place(message: Outbound, channel: Channel, ctx: Ctx) -> None:
    """It is the channel's next. Its due time is for when nobody here comes to it, and seldom: many may be waiting."""
    queue = _queue(message, channel)
    admitted = SendAdmitted(
        tenant_id=message.tenant_id,
        channel_id=message.channel_id,
        conversation_id=message.conversation_id,
        message_id=message.id,
        provider=channel.provider,
        lane=message.lane,
    )
    ctx.resource.lane(queue).remember(channel.id, admitted)  # before anything is waited for: a place may come free
    metrics.SENDS_PUT_OFF.labels(queue).inc()
    wait = wait_for_place(SELDOM)
    await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=False)


async def _with_sender(message: Outbound, channel: Channel, ctx: Ctx) -> bool:
    """Send a message once it is the turn of its channel's rate. False where that takes too long."""
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError, LookupError) as error:
        await _stop(ctx, channel, f"credentials: {error}")
        return False
    if (pair_wait := await _pair_rate_wait(message, channel, ctx)) > 0:
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=pair_wait), throttled=True)
        return False
    try:
        # Before a slot of the rate is taken, which one that can't leave yet would waste.
        async with ctx.resource.attachments.attached(channel, _leaving(message, channel, ctx)) as leaving:
            return await _at_its_rate(message, channel, sender, leaving, ctx)
    except AttachmentMemoryFullError:
        wait = wait_for_place(message.now - (message.admitted_at or message.created_at))
        await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=True)
        return False


async def _at_its_rate(message: Outbound, channel: Channel, sender: Sender, leaving: Outgoing, ctx: Ctx) -> bool:
    wait, reserved = await ctx.resource.reserve_slot(ctx.pool, channel, LONGEST_RATE_WAIT)
    if not reserved:
        # Many may be waiting: the longer each has waited, the less often it asks.
        waited = (message.now - (message.admitted_at or message.created_at)).total_seconds()
        wait += random.uniform(0, min(max(waited, 0.0), LONGEST_SPREAD)) - LONGEST_RATE_WAIT
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=wait), throttled=True)
        return False
    if wait > 0:
        await asyncio.sleep(wait)
    return await provider_call.claim_and_send(message, channel, sender, leaving, ctx)


async def _pair_rate_wait(message: Outbound, channel: Channel, ctx: Ctx) -> float:
    """Seconds for which a bulk message has to wait, as its recipient was sent something just now.

    Not an answer: providers let a burst pass, which is what answers are, and say where it was too much.
    """
    pair = traits(channel.provider).pair_rate_seconds
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
