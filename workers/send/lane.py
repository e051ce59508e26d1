"""Sends what is ready in a conversation's lane, message by message in their order."""

from contextlib import AsyncExitStack
from typing import Final
from uuid import UUID

from shared.domain.channels import Channel
from shared.store.messages.outbound_rows import Outbound
from shared.store.messages.send_batches import LaneKey
from workers.send import provider_call
from workers.send.admission import LEFT_THE_HEAD, SKIP, Admission, Cancel, Late, Reload, Send, record_verdict
from workers.send.gates import GATES, Attempt, due
from workers.send.resources import Ctx

LATE_CLAIMS: Final = 3  # of one delivery that are tried again at once; then the messages wait until they are due
CHANNELS_READ: Final = 3  # times for one message; a channel that changes as often has it wait until it is due again


async def drain(lane: LaneKey, ctx: Ctx) -> set[UUID]:
    """Send the lane's messages until one has to wait; returns those that have left its head.

    A process that stops leaves the rest of the lane to the next one: a call that is cut off would be `unknown`.
    """
    left: set[UUID] = set()
    late = 0
    while not ctx.stopping.is_set():
        message = await ctx.resource.batches(ctx).head(lane)
        if message is None:
            break
        verdict = await attempt(message, ctx)
        if isinstance(verdict, Late) and late < LATE_CLAIMS:
            late += 1
            continue  # with a slot of its own again: until the clock finds it, it would wait for seconds
        if isinstance(verdict, LEFT_THE_HEAD):
            left.add(message.id)
        if not isinstance(verdict, LEFT_THE_HEAD) or verdict == Send(ends_lane=True):
            break
    return left


async def attempt(message: Outbound, ctx: Ctx) -> Admission:
    """Take a lane's first message through the gates and send it; returns what was decided, which is recorded."""
    if not isinstance(verdict := due(message), Send):
        return verdict
    for _ in range(CHANNELS_READ):
        channel = await ctx.resource.channels.get(ctx.pool, message.tenant_id, message.channel_id)
        if channel is None:
            return await record_verdict(message, Cancel("channel_deleted"), ctx)
        verdict = await _through_gates(message, channel, ctx)
        if not isinstance(verdict, Reload):
            return await record_verdict(message, verdict, ctx)
        ctx.resource.channels.forget(channel)
    return SKIP


async def _through_gates(message: Outbound, channel: Channel, ctx: Ctx) -> Admission:
    """The first verdict that keeps the message from its call, else what came of the call, which is recorded."""
    async with AsyncExitStack() as held:
        ready = Attempt(message, channel, held)
        for gate in GATES:
            if not isinstance(verdict := await gate(ready, ctx), Send):
                return verdict
        return await provider_call.claim_and_send(ready, ctx)
