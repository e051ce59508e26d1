"""Reports the delivery status of agents' messages to the provider that waits for it (Kommo).

An agent's message in a chat of our own channel counts as delivered once it is stored, for then the tenant's systems get
it; it is refused where the customer has opted out. The report is tried until the provider accepts it, by the row's due
time, and may be made twice.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from shared.actions import delivery_receipts
from shared.crypto import CryptoError
from shared.domain import consents
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.domain.model import Receipt
from shared.process import metrics
from shared.providers import provider
from shared.providers.base import Ambiguous, ChannelBroken, Refusal, Report, Reporter, Throttled, Unreachable
from shared.queue.jobs import AgentReportDue
from shared.resilience.backoff import Backoff
from shared.sending.pacer import SlotTooFar
from shared.store import channels
from shared.store.messages import agent_reports
from shared.store.messages.agent_reports import OwedReport
from workers.send.resources import Ctx

BACKOFF: Final = Backoff(first=2.0, longest=300.0)  # seconds between tries
MOST_TRIES: Final = 100  # some eight hours; later the status is of no use to the agent
STOPPED_WAIT: Final = timedelta(minutes=5)  # between two tries while the channel is stopped
LONGEST_RATE_WAIT: Final = 2.0  # seconds waited in place for the channel's rate

Outcome = Literal["delivered", "refused_to_carry", "put_off", "given_up"]


async def report(due: AgentReportDue, ctx: Ctx) -> None:
    """Report this message's status to the provider, if that is owed."""
    if not provider(due.provider).agent_reports:
        return
    owed = await agent_reports.owed(ctx.pool, due.tenant_id, due.message_id)
    if owed is None:
        return
    channel = await channels.get(ctx.pool, owed.tenant_id, owed.channel_id)
    if channel is None or not channel.settings.manager.report:
        await agent_reports.postpone(ctx.pool, owed.tenant_id, owed.id, None)
    elif channel.status == "stopped" or "manager" in channel.unread:
        wait = STOPPED_WAIT if channel.status == "stopped" else UNREAD_WAIT
        await agent_reports.postpone(ctx.pool, owed.tenant_id, owed.id, wait)
    else:
        await _report(owed, channel, ctx)


async def _report(owed: OwedReport, channel: Channel, ctx: Ctx) -> None:
    problem = consents.REASONS[owed.stopped_by] if owed.stopped_by is not None else ""
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError):  # the channel's next message stops the channel with the reason
        await agent_reports.postpone(ctx.pool, owed.tenant_id, owed.id, STOPPED_WAIT)
        return
    assert isinstance(sender, Reporter), "its provider declares so"
    try:
        async with ctx.resource.turn(ctx.pool, channel, "normal", LONGEST_RATE_WAIT) as turn:
            await turn.slot(LONGEST_RATE_WAIT)
            refused = await sender.report(channel.address, Report(owed.external_id, problem))
    except SlotTooFar as far:
        await agent_reports.postpone(ctx.pool, owed.tenant_id, owed.id, timedelta(seconds=far.wait))
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
        incoming = delivery_receipts.IncomingReceipt(
            owed.tenant_id, owed.channel_id, channel.provider, receipt, datetime.now(UTC)
        )
        await delivery_receipts.apply(tx, [incoming], timedelta(seconds=ctx.settings.handoff_lease))
    _count(channel, "refused_to_carry" if problem else "delivered")


async def _again(owed: OwedReport, channel: Channel, refused: Refusal, ctx: Ctx) -> None:
    """Postpone a refused report where another try may help, else abandon it. A refusal does not stop the channel: it
    may concern only this message."""
    passing = isinstance(refused, Throttled | Unreachable | Ambiguous | ChannelBroken)
    abandoned = not passing or owed.attempts + 1 >= MOST_TRIES
    asked_wait = refused.retry_after if isinstance(refused, Throttled) else None
    wait = timedelta(seconds=BACKOFF.delay(owed.attempts + 1) if asked_wait is None else max(asked_wait, 1.0))
    await agent_reports.postpone(ctx.pool, owed.tenant_id, owed.id, None if abandoned else wait, tried=True)
    _count(channel, "given_up" if abandoned else "put_off")
    if abandoned:
        ctx.log.warning("report of an agent's message abandoned", message=str(owed.id), code=refused.code)


def _count(channel: Channel, outcome: Outcome) -> None:
    metrics.REPORTS.labels(channel.provider, outcome).inc()
