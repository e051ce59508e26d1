"""Makes one provider call: claims the message, sends it, and records the result."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents as consent_actions
from shared.domain.channels import Channel
from shared.domain.model import Outgoing
from shared.process import metrics
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    OptedOut,
    Sender,
    SendResult,
    Throttled,
    Unreachable,
    WindowClosed,
)
from shared.queue.worker import Context
from shared.resilience.backoff import Backoff
from shared.resilience.lock_waits import Locked
from shared.sending.pacer import SlotTooFar, Turn
from shared.sending.senders import Senders
from shared.store import channels, rate_limits
from shared.store.events import Event, record
from shared.store.messages import sends, unknown_sends
from shared.store.messages.outbound_rows import Outbound

BACKOFF = Backoff(first=2.0, longest=300.0)  # seconds between tries of a message that is provably not accepted
ABANDON_AFTER = timedelta(hours=24)  # of tries; a message that is a day late is of no use
STOPPED_WAIT = timedelta(minutes=5)  # between two tries of a stopped channel's messages
SHORTEST_THROTTLE = 1.0  # seconds; "try again in 0 s" would be a loop
LONGEST_THROTTLE = 3600.0  # seconds a message may be asked to wait; Meta's marketing limit asks for a day
LONGEST_CLAIMED = 0.5  # seconds that a claimed message waits for another slot: a crash would make it `unknown`

Ctx = Context[Senders]


async def claim_and_send(
    message: Outbound, channel: Channel, sender: Sender, leaving: Outgoing, turn: Turn, ctx: Ctx
) -> bool:
    """Claim the message, wait for its slot, call the provider, record the result. False where the claim was not to be
    had, or too slow."""
    lease = timedelta(seconds=ctx.settings.send_timeout + ctx.settings.send_lease_margin)
    before, before_wall = time.monotonic(), time.time()
    claim_id = await sends.claim(ctx.pool, message, channel, lease)
    if claim_id is None:
        return False
    ctx.resource.pacer.claiming.took(time.monotonic() - before)
    on_time = await _wait_for_slot(turn, message, ctx)
    started = time.monotonic()
    # The lease runs from the claim. A call that begins too late would go on beyond it, perhaps after look-ups have
    # found the message absent. Two clocks, for a suspended machine stops the one and a correction moves the other.
    if not on_time or max(started - before, time.time() - before_wall) > ctx.settings.send_lease_margin:
        about = (message.tenant_id, message.id, claim_id)
        why = "its claim took too long, so it was not sent on it"

        async def release_claim() -> None:
            await sends.back(ctx.pool, *about, timedelta(0), "late_claim", why)

        # Left in `sending`, it would become unknown.
        await _record_through_outages(release_claim, ctx, message, lease.total_seconds())
        return False
    result = await sender.send(leaving)
    metrics.SEND_SECONDS.labels(channel.provider).observe(time.monotonic() - started)
    metrics.SENDS.labels(channel.provider, type(result).__name__.lower()).inc()

    async def write() -> None:
        async with ctx.transaction() as tx:
            await _record(tx, message, channel, claim_id, result, ctx)

    await _record_through_outages(write, ctx, message, lease.total_seconds())
    return True  # a message that has to wait is now the head of its lane, and ends the drain there


async def _wait_for_slot(turn: Turn, message: Outbound, ctx: Ctx) -> bool:
    """Wait until the call may be made. False: there was no slot in time."""
    try:
        await turn.slot(LONGEST_CLAIMED)
    except SlotTooFar:
        return False
    except Exception as error:  # whatever it is, the message was not sent
        ctx.log.warning("no slot for a claimed message", message=str(message.id), error=type(error).__name__)
        return False
    return True


async def _record(
    tx: database.Connection, message: Outbound, channel: Channel, claim_id: UUID, result: SendResult, ctx: Ctx
) -> None:
    """Record the result of the call.

    Each write changes nothing where a receipt or a lost lease has moved the message already. After a lost lease, a
    message that the provider accepted is still recorded as `sent`, and one that it did not accept is sent again.
    """
    key = (tx, message.tenant_id, message.id, claim_id)
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    match result:
        case Accepted(external_id, held):
            status = await sends.sent(*key, external_id, held=held)
            if status == "sent":
                await record(tx, Event("message.sent", *about, detail={"held": True} if held else {}))
        case Throttled(code, retry_after, detail, scope) if (retry_after or 0.0) <= LONGEST_THROTTLE:
            seconds = (
                BACKOFF.delay(message.attempts + 1) if retry_after is None else max(retry_after, SHORTEST_THROTTLE)
            )
            wait = timedelta(seconds=seconds)
            await _back(key, about, message, wait, code, detail)
            if scope == "channel":
                await rate_limits.slow(tx, message.tenant_id, message.channel_id, wait)
                metrics.CHANNELS_SLOWED.labels(channel.provider).inc()
        case Unreachable(code, detail):
            await _back(key, about, message, timedelta(seconds=BACKOFF.delay(message.attempts + 1)), code, detail)
        case ChannelBroken(code, detail, "channel"):
            await _back(key, about, message, STOPPED_WAIT, code, detail)
            if await channels.stop(tx, channel.tenant_id, channel.id, f"{code}: {detail}"[:500]):
                ctx.log.error("channel stopped", channel=str(channel.id), code=code)
                await record(tx, Event("channel.stopped", channel.tenant_id, channel.id, detail={"error_code": code}))
        case WindowClosed(code, _) if channel.kind == "whatsapp" and not (message.sent_as or message.template):
            if not await sends.window_closed(*key, by_provider=True, code=code):
                await _anew(tx, message)
        case Ambiguous(code, detail):
            check = timedelta(seconds=ctx.settings.unknown_check_after)
            if await sends.unknown(*key, check, code, detail):
                await record(tx, Event("message.unknown", *about, detail={"error_code": code}))
        case _:
            if isinstance(result, OptedOut):
                await consent_actions.record_refusals(tx, [_refused(message, channel, result.code)])
            # OptedOut, RecipientInvalid, ContentRejected; a window closed for a template, which it should not bind;
            # configuration that concerns only such messages; a throttle that would block the lane for hours.
            if await sends.failed(*key, result.code, result.detail):
                await record(tx, Event("message.failed", *about, detail={"error_code": result.code}))


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


async def _back(
    key: tuple[database.Connection, UUID, UUID, UUID],
    about: tuple[UUID, UUID, UUID, UUID],
    message: Outbound,
    wait: timedelta,
    code: str,
    detail: str,
) -> None:
    if message.now - (message.admitted_at or message.created_at) < ABANDON_AFTER:
        if not await sends.back(*key, wait, code, detail):
            await _anew(key[0], message)
    elif await sends.failed(*key, code, f"given up after {ABANDON_AFTER}: {detail}"):
        await record(key[0], Event("message.failed", *about, detail={"error_code": code}))


async def _anew(tx: database.Connection, message: Outbound) -> None:
    """Send again a message that the provider did not accept, where the lease ran out before that was recorded.

    It is `unknown` by then, and would be abandoned where the provider has no list. Nothing is done where a receipt has
    moved it.
    """
    with contextlib.suppress(unknown_sends.DecisionRefused):
        named = unknown_sends.OutboundRef(message.tenant_id, message.conversation_id, message.id)
        await unknown_sends.resend_absent(tx, named, why=unknown_sends.AS_REFUSED)


async def _record_through_outages(
    write: Callable[[], Awaitable[None]], ctx: Ctx, message: Outbound, lease: float
) -> None:
    """Record the result of a provider call, trying again through outages and locks: the call can't be repeated.

    It goes on beyond the claim's lease, for twice as long: a late answer still resolves the `unknown` that the clock
    has made of the message. Where a tenant holds locks, one of its messages is tried at a time, and each once more at
    the end.
    """
    deadline, locked = time.monotonic() + 2 * lease, False
    while True:
        if locked and time.monotonic() < deadline and (wait := ctx.locks.wait(message.tenant_id)) > 0:
            await asyncio.sleep(min(wait, 0.5))
            continue
        try:
            with ctx.locks.handling(message.tenant_id):
                await database.repeat(write)
            ctx.locks.went_through(message.tenant_id)
            return
        except Exception as error:
            locked = isinstance(error, (database.LockTimeout, Locked))
            if isinstance(error, database.LockTimeout):
                ctx.locks.in_vain(message.tenant_id)
            if not (locked or database.is_outage(error)) or time.monotonic() > deadline:
                ctx.log.error("send not recorded: it becomes unknown", message=str(message.id), error=str(error)[:200])
                raise
        await asyncio.sleep(0.5)
