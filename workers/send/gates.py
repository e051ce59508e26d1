"""What the first message of a lane passes before its provider is called.

In this order: due time, expiry, its campaign, opt-outs, a stopped channel, the window, the pair rate, memory for
attachments, the channel's rate. The delivery has a place in its channel's bulkhead already.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from shared import database
from shared.crypto import CryptoError
from shared.domain import consents
from shared.domain.channels import Channel
from shared.domain.model import ConsentScope, Outgoing
from shared.domain.window import Admit, decide
from shared.providers import provider
from shared.providers.base import Sender
from shared.queue.jobs import Lane
from shared.queue.worker import Context
from shared.resilience.bulkhead import wait_when_full
from shared.sending.attachments import AttachmentMemoryFullError
from shared.sending.pacer import SlotTooFar
from shared.sending.senders import Senders, outgoing
from shared.store import channels, message_templates
from shared.store.events import Event, record
from shared.store.messages import bulk, outbound, sends
from shared.store.messages.outbound_rows import Outbound
from workers.send import provider_call

Ctx = Context[Senders]
# Seconds waited in place for the channel's rate; a longer wait is a due time. A campaign has two seconds' worth of
# messages at `send`, which take longer where replies leave or customers write.
LONGEST_RATE_WAIT: Final[Mapping[Lane, float]] = {"normal": 2.0, "bulk": 5.0}
LONGEST_SPREAD = 30.0  # seconds over which messages that wait for the channel's rate try again
PAUSED_WAIT = timedelta(hours=1)  # between two looks at a message of a paused campaign; to resume it makes it due
CAMPAIGN_OVER = {"canceled", "failed", "deleted"}


async def send_head(message: Outbound, ctx: Ctx) -> bool:
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
    if message.campaign_status in CAMPAIGN_OVER:
        async with ctx.transaction() as tx:
            return await outbound.cancel(tx, message.tenant_id, message.id, f"campaign_{message.campaign_status}")
    if message.campaign_status == "paused":
        await bulk.wait_for_campaign(ctx.pool, message.tenant_id, message.id, PAUSED_WAIT)
        return False
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
    return await _with_sender(message, channel, ctx)


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
        async with ctx.resource.attachments.attached(channel, await _leaving(message, channel, ctx)) as leaving:
            return await _at_its_rate(message, channel, sender, leaving, ctx)
    except AttachmentMemoryFullError:
        wait = wait_when_full(message.now - (message.admitted_at or message.created_at))
        await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=True)
        return False


async def _at_its_rate(message: Outbound, channel: Channel, sender: Sender, leaving: Outgoing, ctx: Ctx) -> bool:
    """Send a message in the next slot of its channel's rate. False where that is too far off."""
    longest = LONGEST_RATE_WAIT[message.lane]
    try:
        async with ctx.resource.turn(ctx.pool, channel, message.lane, longest) as turn:
            return await provider_call.claim_and_send(message, channel, sender, leaving, turn, ctx)
    except SlotTooFar as far:
        # Many may be waiting: the longer a message has waited, the less often it tries.
        waited = (message.now - (message.admitted_at or message.created_at)).total_seconds()
        wait = far.wait + random.uniform(0, min(max(waited, 0.0), LONGEST_SPREAD)) - longest
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=wait), throttled=True)
        return False


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


async def _leaving(message: Outbound, channel: Channel, ctx: Ctx) -> Outgoing:
    leaving = outgoing(message, channel, ctx.settings.public_url)
    if leaving.template is not None and channel.settings.meta.marketing_path == "marketing_messages":
        about = (message.tenant_id, message.channel_id, leaving.template)
        leaving = replace(leaving, marketing=await message_templates.is_marketing(ctx.pool, *about))
    if provider(channel.provider).unsubscribe_links and message.lane == "bulk":
        return replace(leaving, unsubscribe=ctx.resource.unsubscribe_url(channel, message.id))
    return leaving


async def _stop(ctx: Ctx, channel: Channel, reason: str) -> None:
    async with ctx.transaction() as tx:
        if await channels.stop(tx, channel.tenant_id, channel.id, reason[:500]):
            ctx.log.error("channel stopped", channel=str(channel.id), reason=reason)
            await record(
                tx, Event("channel.stopped", channel.tenant_id, channel.id, detail={"error_code": "credentials"})
            )
