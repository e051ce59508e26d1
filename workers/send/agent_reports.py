"""What became of managers' messages, told to the provider that waits to hear it (Kommo).

What a manager writes in a chat of our own channel is ours to deliver. It is delivered once it is kept here, where the
tenant's systems are told of it; it is not where the customer has opted out. Told until the provider has taken it, for
which the row has a due time; the same may be told twice.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from shared.actions import delivery_receipts
from shared.crypto import CryptoError
from shared.domain import consents
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.domain.model import Receipt
from shared.process import metrics
from shared.providers import traits
from shared.providers.base import Ambiguous, ChannelBroken, Refusal, Report, Reporter, Throttled, Unreachable
from shared.queue import topology
from shared.queue.jobs import SendAdmitted
from shared.queue.worker import Context
from shared.resilience.backoff import Backoff
from shared.resilience.bulkhead import BulkheadFull, wait_when_full
from shared.sending.senders import Senders
from shared.store import channels
from shared.store.messages import agent_reports
from shared.store.messages.agent_reports import Owed

BACKOFF: Final = Backoff(first=2.0, longest=300.0)  # seconds between tries
MOST_TRIES: Final = 100  # some eight hours; who reads the chat has seen by then that nothing is told
STOPPED_WAIT: Final = timedelta(minutes=5)  # a stopped channel's are looked at this often
LONGEST_TURN: Final = 2.0  # seconds waited in place for the channel's rate

Outcome = Literal["delivered", "refused_to_carry", "put_off", "given_up"]


async def report(admitted: SendAdmitted, ctx: Context[Senders]) -> None:
    """Tell the provider of this message, if that is owed."""
    if not traits(admitted.provider).reports:
        return
    owed = await agent_reports.owed(ctx.pool, admitted.tenant_id, admitted.message_id)
    if owed is None:
        return
    channel = await channels.get(ctx.pool, owed.tenant_id, owed.channel_id)
    if channel is None or not channel.settings.manager.report:
        await agent_reports.put_off(ctx.pool, owed.tenant_id, owed.id, None)
    elif channel.status == "stopped" or "manager" in channel.unread:
        wait = STOPPED_WAIT if channel.status == "stopped" else UNREAD_WAIT
        await agent_reports.put_off(ctx.pool, owed.tenant_id, owed.id, wait)
    else:
        await _tell(owed, channel, ctx)


async def _tell(owed: Owed, channel: Channel, ctx: Context[Senders]) -> None:
    problem = consents.REASONS[owed.stopped_by] if owed.stopped_by is not None else ""
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError):  # the channel's next message stops it and says why
        await agent_reports.put_off(ctx.pool, owed.tenant_id, owed.id, STOPPED_WAIT)
        return
    assert isinstance(sender, Reporter), "its provider's traits say so"
    wait, taken = await ctx.resource.turn(ctx.pool, channel, LONGEST_TURN)
    if not taken:
        await agent_reports.put_off(ctx.pool, owed.tenant_id, owed.id, timedelta(seconds=wait))
        return
    if wait > 0:
        await asyncio.sleep(wait)
    try:
        with ctx.resource.bulkhead(topology.send_queue(channel.provider).name).acquire(channel.id):
            refused = await sender.report(channel.address, Report(owed.external_id, problem))
    except BulkheadFull:
        await agent_reports.put_off(ctx.pool, owed.tenant_id, owed.id, wait_when_full(timedelta(seconds=1)))
        return
    if refused is not None:
        await _again(owed, channel, refused, ctx)
        return
    receipt = Receipt(
        owed.external_id,
        "failed" if problem else "delivered",
        owed.id,
        channel.kind,
        consents.OPTED_OUT if problem else None,
        problem or None,
    )
    async with ctx.transaction() as tx:
        arrived = delivery_receipts.Arrived(
            owed.tenant_id, owed.channel_id, channel.provider, receipt, datetime.now(UTC)
        )
        await delivery_receipts.apply(tx, [arrived], timedelta(seconds=ctx.settings.handoff_lease))
    _count(channel, "refused_to_carry" if problem else "delivered")


async def _again(owed: Owed, channel: Channel, refused: Refusal, ctx: Context[Senders]) -> None:
    """Later, where it may help. A refusal stops no channel: it may be about this one message."""
    passing = isinstance(refused, Throttled | Unreachable | Ambiguous | ChannelBroken)
    given_up = not passing or owed.attempts + 1 >= MOST_TRIES
    told = refused.retry_after if isinstance(refused, Throttled) else None
    wait = timedelta(seconds=BACKOFF.delay(owed.attempts + 1) if told is None else max(told, 1.0))
    await agent_reports.put_off(ctx.pool, owed.tenant_id, owed.id, None if given_up else wait, tried=True)
    _count(channel, "given_up" if given_up else "put_off")
    if given_up:
        ctx.log.warning("report of a manager's message given up", message=str(owed.id), code=refused.code)


def _count(channel: Channel, outcome: Outcome) -> None:
    metrics.REPORTS.labels(channel.provider, outcome).inc()
