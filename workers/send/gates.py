"""What the first message of a lane passes before its provider is called: each gate is a function that gives a verdict.

The first gates decide by what is known. The last ones make ready what the call needs: the channel's client, the
attachments and a turn in the channel's rate. So nothing is left to do between the claim and the call. The delivery has
a place in its channel's bulkhead already.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from shared.crypto import CryptoError
from shared.domain import consents
from shared.domain.channels import Channel
from shared.domain.model import Outgoing
from shared.domain.window import Admit, decide
from shared.providers import provider
from shared.providers.base import Sender
from shared.queue.jobs import Lane
from shared.resilience.bulkhead import wait_when_full
from shared.sending.attachments import AttachmentMemoryFullError
from shared.sending.pacer import SlotTooFar, Turn
from shared.sending.senders import outgoing
from shared.store import message_templates
from shared.store.messages.outbound_rows import Outbound
from shared.store.messages.pair_rate import seconds_since_last_send
from workers.send.admission import (
    SEND,
    SKIP,
    Admission,
    AwaitCampaign,
    Cancel,
    Fail,
    Postpone,
    Requeue,
    StopChannel,
)
from workers.send.resources import Ctx

# Seconds waited in place for the channel's rate; a longer wait is a due time. A campaign has two seconds' worth of
# messages at `send`, which take longer where replies leave or customers write.
LONGEST_RATE_WAIT: Final[Mapping[Lane, float]] = {"normal": 2.0, "bulk": 5.0}
LONGEST_SPREAD: Final = 30.0  # seconds over which messages that wait for the channel's rate try again
STOPPED_WAIT: Final = timedelta(minutes=5)  # between two tries of a stopped channel's messages
PAUSED_WAIT: Final = timedelta(hours=1)  # between two looks at a paused campaign's message; resuming makes it due
CAMPAIGN_OVER: Final = {"canceled", "failed", "deleted"}


@dataclass(slots=True)
class Attempt:
    """A message and its channel, and what the gates have made ready for its call. `held` lasts until after the call."""

    message: Outbound
    channel: Channel
    held: AsyncExitStack
    sender: Sender = field(init=False)
    leaving: Outgoing = field(init=False)
    turn: Turn = field(init=False)


Gate = Callable[[Attempt, Ctx], Awaitable[Admission]]


def due(message: Outbound) -> Admission:
    """The gate before all others, which needs no channel."""
    is_due = message.not_before is None or message.not_before <= message.now
    return SEND if message.status == "ready" and is_due else SKIP


async def not_expired(attempt: Attempt, _: Ctx) -> Admission:
    expires_at = attempt.message.expires_at
    return SEND if expires_at is None or expires_at > attempt.message.now else Cancel("expired")


async def campaign(attempt: Attempt, _: Ctx) -> Admission:
    """The claim asks again, under the lock that a pause takes."""
    status = attempt.message.campaign_status
    if status in CAMPAIGN_OVER:
        return Cancel(f"campaign_{status}")
    return AwaitCampaign(PAUSED_WAIT) if status == "paused" else SEND


async def not_opted_out(attempt: Attempt, _: Ctx) -> Admission:
    """The customer may have opted out since the message was admitted; the claim asks again."""
    scope = attempt.message.stopped_by
    return SEND if scope is None else Fail(consents.OPTED_OUT, consents.REASONS[scope])


async def channel_active(attempt: Attempt, _: Ctx) -> Admission:
    return SEND if attempt.channel.status == "active" else Postpone(STOPPED_WAIT, throttled=False)


async def window(attempt: Attempt, _: Ctx) -> Admission:
    """Whether the message may still leave in the form in which it was admitted."""
    message = attempt.message
    decision = decide(
        kind=attempt.channel.kind,
        last_user_message_at=message.last_user_message_at,
        now=message.now,
        policy="fail",
        template=message.template or message.sent_as,
        refused_at=message.window_refused_at,
    )
    return SEND if isinstance(decision, Admit) else Requeue("window_closed")


async def client(attempt: Attempt, ctx: Ctx) -> Admission:
    try:
        attempt.sender = await ctx.resource.of(ctx.pool, attempt.channel)
    except (CryptoError, ValueError, LookupError) as error:
        return StopChannel(f"credentials: {error}")
    return SEND


async def pair_rate(attempt: Attempt, ctx: Ctx) -> Admission:
    """The provider's limit of one message per recipient in some seconds, for bulk messages.

    Answers don't wait: providers let short bursts pass, and report where one was too long.
    """
    pair = provider(attempt.channel.provider).pair_interval
    if attempt.message.lane != "bulk" or not pair:
        return SEND
    elapsed = await seconds_since_last_send(ctx.pool, attempt.message)
    return SEND if elapsed is None or elapsed >= pair else Postpone(timedelta(seconds=pair - elapsed))


async def attachments(attempt: Attempt, ctx: Ctx) -> Admission:
    """Before a slot of the rate is reserved: a message that can't leave yet would waste it."""
    leaving = await _leaving(attempt.message, attempt.channel, ctx)
    try:
        attached = ctx.resource.attachments.attached(attempt.channel, leaving)
        attempt.leaving = await attempt.held.enter_async_context(attached)
    except AttachmentMemoryFullError:
        return Postpone(wait_when_full(_waited(attempt.message)))
    return SEND


async def rate(attempt: Attempt, ctx: Ctx) -> Admission:
    message = attempt.message
    longest = LONGEST_RATE_WAIT[message.lane]
    try:
        turn = ctx.resource.turn(ctx.pool, attempt.channel, message.lane, longest)
        attempt.turn = await attempt.held.enter_async_context(turn)
    except SlotTooFar as far:
        # Many may be waiting: the longer a message has waited, the less often it tries.
        spread = random.uniform(0, min(max(_waited(message).total_seconds(), 0.0), LONGEST_SPREAD))
        return Postpone(timedelta(seconds=far.wait + spread - longest))
    return SEND


GATES: Final[tuple[Gate, ...]] = (
    not_expired,
    campaign,
    not_opted_out,
    channel_active,
    window,
    client,
    pair_rate,
    attachments,
    rate,
)


def _waited(message: Outbound) -> timedelta:
    return message.now - (message.admitted_at or message.created_at)


async def _leaving(message: Outbound, channel: Channel, ctx: Ctx) -> Outgoing:
    leaving = outgoing(message, channel, ctx.settings.public_url)
    if leaving.template is not None and channel.settings.meta.marketing_path == "marketing_messages":
        about = (message.tenant_id, message.channel_id, leaving.template)
        leaving = replace(leaving, marketing=await message_templates.is_marketing(ctx.pool, *about))
    if provider(channel.provider).unsubscribe_links and message.lane == "bulk":
        return replace(leaving, unsubscribe=ctx.resource.unsubscribe_url(channel, message.id))
    return leaving
