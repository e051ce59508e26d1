"""Records what came of a provider call, through outages and locks: the call can't be repeated."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

from shared import database
from shared.actions import consents as consent_actions
from shared.domain.channels import Channel
from shared.process import metrics
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    OptedOut,
    SendResult,
    Throttled,
    Unreachable,
    WindowClosed,
)
from shared.resilience.backoff import Backoff
from shared.resilience.lock_waits import Locked
from shared.store import channels, rate_limits
from shared.store.events import Event, record
from shared.store.messages import sends, unknown_sends
from shared.store.messages.outbound_rows import Outbound
from shared.store.messages.send_batches import SentMessage
from workers.send.admission import Send
from workers.send.gates import STOPPED_WAIT
from workers.send.resources import Ctx

T = TypeVar("T")

BACKOFF: Final = Backoff(first=2.0, longest=300.0)  # seconds between tries of a message that is provably not accepted
ABANDON_AFTER: Final = timedelta(hours=24)  # of tries; a message that is a day late is of no use
SHORTEST_THROTTLE: Final = 1.0  # seconds; "try again in 0 s" would be a loop
LONGEST_THROTTLE: Final = 3600.0  # seconds a message may be asked to wait; Meta's marketing limit asks for a day


@dataclass(frozen=True, slots=True)
class Call:
    """A claimed message. `lease`: of its claim, after which the clock makes it `unknown`."""

    message: Outbound
    channel: Channel
    claim_id: UUID
    lease: timedelta

    @property
    def key(self) -> tuple[UUID, UUID, UUID]:
        """Tenant, message and claim."""
        return self.message.tenant_id, self.message.id, self.claim_id

    @property
    def about(self) -> tuple[UUID, UUID, UUID, UUID]:
        """What its events name: tenant, channel, conversation and message."""
        message = self.message
        return message.tenant_id, message.channel_id, message.conversation_id, message.id


async def record_result(call: Call, result: SendResult, ctx: Ctx) -> Send:
    """Record the result of the call. A message that has to wait is the head of its lane again.

    Raises what kept it from being recorded for twice the lease: it is unknown.
    """

    async def alone() -> None:
        async with ctx.transaction() as tx:
            await _record(tx, call, result, ctx)

    async def write() -> bool:
        if isinstance(result, Accepted):
            accepted = SentMessage(call.message, call.claim_id, result.external_id, result.held)
            return await ctx.resource.batches(ctx).sent(accepted, alone)
        await alone()
        return True

    return Send(ends_lane=not await _through_outages(write, call, ctx))


async def release(call: Call, code: str, detail: str, ctx: Ctx) -> None:
    """sending → ready, of a message that was not called: left in `sending`, it would become unknown."""

    async def write() -> None:
        await sends.back(ctx.pool, *call.key, timedelta(0), code, detail)

    await _through_outages(write, call, ctx)


async def _through_outages(write: Callable[[], Awaitable[T]], call: Call, ctx: Ctx) -> T:
    """Return what `write` does, trying again through outages and locks.

    It goes on beyond the claim's lease, for twice as long: a late answer still resolves the `unknown` that the clock
    has made of the message. Where a tenant holds locks, one of its messages is tried at a time, and each once more at
    the end.
    """
    tenant_id = call.message.tenant_id
    deadline, locked = time.monotonic() + 2 * call.lease.total_seconds(), False
    while True:
        if locked and time.monotonic() < deadline and (wait := ctx.locks.wait(tenant_id)) > 0:
            await asyncio.sleep(min(wait, 0.5))
            continue
        try:
            with ctx.locks.handling(tenant_id):
                written = await database.repeat(write)
            ctx.locks.went_through(tenant_id)
            return written
        except Exception as error:
            locked = isinstance(error, (database.LockTimeout, Locked))
            if isinstance(error, database.LockTimeout):
                ctx.locks.in_vain(tenant_id)
            if not (locked or database.is_outage(error)) or time.monotonic() > deadline:
                named = {"message": str(call.message.id), "error": str(error)[:200]}
                ctx.log.error("send not recorded: it becomes unknown", **named)
                raise
        await asyncio.sleep(0.5)


async def _record(tx: database.Connection, call: Call, result: SendResult, ctx: Ctx) -> None:
    """Write the result to the message's row.

    Each write changes nothing where a receipt or a lost lease has moved the message already. After a lost lease, a
    message that the provider accepted is still recorded as `sent`, and one that it did not accept is sent again.
    """
    message, channel = call.message, call.channel
    again = timedelta(seconds=BACKOFF.delay(message.attempts + 1))
    match result:
        case Accepted(external_id, held):
            if await sends.sent(tx, *call.key, external_id, held=held) == "sent":
                await record(tx, Event("message.sent", *call.about, detail={"held": True} if held else {}))
        case Throttled(code, retry_after, detail, scope) if (retry_after or 0.0) <= LONGEST_THROTTLE:
            wait = again if retry_after is None else timedelta(seconds=max(retry_after, SHORTEST_THROTTLE))
            await _back(tx, call, wait, code, detail)
            if scope == "channel":
                await rate_limits.slow(tx, message.tenant_id, message.channel_id, wait)
                metrics.CHANNELS_SLOWED.labels(channel.provider).inc()
        case Unreachable(code, detail):
            await _back(tx, call, again, code, detail)
        case ChannelBroken(code, detail, "channel"):
            await _back(tx, call, STOPPED_WAIT, code, detail)
            if await channels.stop(tx, channel.tenant_id, channel.id, f"{code}: {detail}"[:500]):
                ctx.log.error("channel stopped", channel=str(channel.id), code=code)
                await record(tx, Event("channel.stopped", channel.tenant_id, channel.id, detail={"error_code": code}))
        case WindowClosed(code, _) if channel.kind == "whatsapp" and not (message.sent_as or message.template):
            if not await sends.window_closed(tx, *call.key, by_provider=True, code=code):
                await _anew(tx, message)
        case Ambiguous(code, detail):
            check = timedelta(seconds=ctx.settings.unknown_check_after)
            if await sends.unknown(tx, *call.key, check, code, detail):
                await record(tx, Event("message.unknown", *call.about, detail={"error_code": code}))
        case _:
            if isinstance(result, OptedOut):
                await consent_actions.record_refusals(tx, [_refused(message, channel, result.code)])
            # OptedOut, RecipientInvalid, ContentRejected; a window closed for a template, which it should not bind;
            # configuration that concerns only such messages; a throttle that would block the lane for hours.
            if await sends.failed(tx, *call.key, result.code, result.detail):
                await record(tx, Event("message.failed", *call.about, detail={"error_code": result.code}))


def _refused(message: Outbound, channel: Channel, code: str) -> consent_actions.OptOutRefusal:
    """`message.now` is from before the claim, so a consent that the customer gave since is newer than the refusal."""
    return consent_actions.OptOutRefusal(
        tenant_id=message.tenant_id,
        conversation_id=message.conversation_id,
        message_id=message.id,
        provider=channel.provider,
        code=code,
        at=message.now,
    )


async def _back(tx: database.Connection, call: Call, wait: timedelta, code: str, detail: str) -> None:
    message = call.message
    if message.now - (message.admitted_at or message.created_at) < ABANDON_AFTER:
        if not await sends.back(tx, *call.key, wait, code, detail):
            await _anew(tx, message)
    elif await sends.failed(tx, *call.key, code, f"given up after {ABANDON_AFTER}: {detail}"):
        await record(tx, Event("message.failed", *call.about, detail={"error_code": code}))


async def _anew(tx: database.Connection, message: Outbound) -> None:
    """Send again a message that the provider did not accept, where the lease ran out before that was recorded.

    It is `unknown` by then, and would be abandoned where the provider has no list. Nothing is done where a receipt has
    moved it.
    """
    with contextlib.suppress(unknown_sends.DecisionRefused):
        named = unknown_sends.OutboundRef(message.tenant_id, message.conversation_id, message.id)
        await unknown_sends.resend_absent(tx, named, why=unknown_sends.AS_REFUSED)
