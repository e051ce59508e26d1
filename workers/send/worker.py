"""SendAdmitted → claim → provider call → what came of it. At most once by itself.

Neither Twilio nor Meta documents an idempotency key. So a message is claimed, committed, called, recorded; and what
happened between the claim and a record that never came is `unknown`, looked up, and sent anew only where the provider's
list has it not (resolving.py).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents as consenting
from shared.crypto import CryptoError
from shared.domain import consents
from shared.domain.channels import Channel
from shared.domain.model import ConsentScope, Outgoing
from shared.domain.window import Admit, decide
from shared.process import metrics
from shared.providers import traits
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
from shared.queue import topology
from shared.queue.jobs import SendAdmitted
from shared.queue.worker import Context, Worker
from shared.resilience.backoff import Backoff
from shared.resilience.bulkhead import BulkheadFull, wait_when_full
from shared.resilience.lock_waits import Locked
from shared.sending.attachments import NoRoomError
from shared.sending.senders import CONCURRENCY, Senders, open_senders, outgoing
from shared.store import channels
from shared.store.events import Event, record
from shared.store.messages import agent_reports, outbound, sends, unknown_sends
from shared.store.messages.outbound import Outbound
from workers.send import agent_reports as reporting
from workers.send import unknown_lookup

worker: Worker[SendAdmitted, Senders] = Worker(
    name="send",
    queues=topology.SEND,
    consumes=SendAdmitted,
    concurrency=CONCURRENCY,
    open=open_senders,
)

Ctx = Context[Senders]

BACKOFF = Backoff(first=2.0, longest=300.0)  # seconds between tries of a message that is provably not accepted
GIVE_UP_AFTER = timedelta(hours=24)  # of tries; a day-old message helps nobody
STOPPED_WAIT = timedelta(minutes=5)  # a stopped channel's messages are looked at this often
SHORTEST_THROTTLE = 1.0  # seconds; "try again in 0 s" would be a loop
LONGEST_THROTTLE = 3600.0  # seconds a message may be asked to wait; Meta's marketing limit asks for a day
LONGEST_TURN = 2.0  # seconds waited in place for the channel's rate; a longer wait is a due time
LONGEST_SPREAD = 30.0  # seconds over which those that wait for the channel's rate ask for it again
SELDOM = timedelta(minutes=1)  # what found the bulkhead full asks again as if it had waited so long
LONGEST_HELP = 60.0  # seconds one delivery stays in hand for others of its channel; the broker waits half an hour


@worker.handle
async def send(admitted: SendAdmitted, ctx: Ctx) -> None:
    """Whoever holds the lane drains it; who finds it held, or its head not ready, has nothing to do.

    Then the channel's bulkhead has a free call, and what waits for it is next.
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


@worker.postpone
async def put_off(admitted: SendAdmitted, ctx: Ctx, wait: timedelta | None) -> None:
    """Never one in `sending`, whose due time is the lease of its claim."""
    await outbound.put_off(ctx.pool, admitted.tenant_id, admitted.message_id, wait, of=("ready", "unknown"))
    # A report is never set aside: nothing would tell it from one that was given up.
    await agent_reports.put_off(
        ctx.pool, admitted.tenant_id, admitted.message_id, STOPPED_WAIT if wait is None else wait
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
        await sends.postpone(ctx.pool, message.tenant_id, message.id, STOPPED_WAIT, throttled=False)
        return False
    if not still_open(message, channel):
        async with ctx.transaction() as tx:
            return await sends.window_closed(
                tx, message.tenant_id, message.id, None, by_provider=False, code="window_closed"
            )
    try:
        with ctx.resource.bulkhead(_queue(message, channel)).acquire(channel.id):
            return await _in_turn(message, channel, ctx)
    except BulkheadFull:
        await _wait_for_bulkhead(message, channel, ctx)
        return False


def _queue(message: Outbound, channel: Channel) -> str:
    return topology.send_queue(channel.provider, message.lane).name


async def _wait_for_bulkhead(message: Outbound, channel: Channel, ctx: Ctx) -> None:
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
    ctx.resource.bulkhead(queue).remember(channel.id, admitted)  # before any await: a call may end meanwhile
    metrics.SENDS_POSTPONED.labels(queue).inc()
    wait = wait_when_full(SELDOM)
    await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=False)


async def _in_turn(message: Outbound, channel: Channel, ctx: Ctx) -> bool:
    """Send a message once it is the turn of its channel's rate. False where that takes too long."""
    try:
        sender = await ctx.resource.of(ctx.pool, channel)
    except (CryptoError, ValueError, LookupError) as error:
        await _stop(ctx, channel, f"credentials: {error}")
        return False
    if (apart := await _apart(message, channel, ctx)) > 0:
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=apart), throttled=True)
        return False
    try:
        # Before a slot of the rate is taken, which one that can't leave yet would waste.
        async with ctx.resource.packing.packed(channel, _leaving(message, channel, ctx)) as leaving:
            return await _at_its_rate(message, channel, sender, leaving, ctx)
    except NoRoomError:
        wait = wait_when_full(message.now - (message.admitted_at or message.created_at))
        await sends.postpone(ctx.pool, message.tenant_id, message.id, wait, throttled=True)
        return False


async def _at_its_rate(message: Outbound, channel: Channel, sender: Sender, leaving: Outgoing, ctx: Ctx) -> bool:
    wait, taken = await ctx.resource.turn(ctx.pool, channel, LONGEST_TURN)
    if not taken:
        # Many may be waiting: the longer each has waited, the less often it asks.
        waited = (message.now - (message.admitted_at or message.created_at)).total_seconds()
        wait += random.uniform(0, min(max(waited, 0.0), LONGEST_SPREAD)) - LONGEST_TURN
        await sends.postpone(ctx.pool, message.tenant_id, message.id, timedelta(seconds=wait), throttled=True)
        return False
    if wait > 0:
        await asyncio.sleep(wait)
    return await _claim_and_send(message, channel, sender, leaving, ctx)


async def _apart(message: Outbound, channel: Channel, ctx: Ctx) -> float:
    """Seconds for which a bulk message has to wait, as its recipient was sent something just now.

    Not an answer: providers let a burst pass, which is what answers are, and say where it was too much.
    """
    pair = traits(channel.provider).pair_seconds
    if message.lane != "bulk" or not pair:
        return 0.0
    quiet = await sends.quiet_for(ctx.pool, message)
    return 0.0 if quiet is None else pair - quiet


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


async def _claim_and_send(message: Outbound, channel: Channel, sender: Sender, leaving: Outgoing, ctx: Ctx) -> bool:
    lease = timedelta(seconds=ctx.settings.send_timeout + ctx.settings.send_lease_margin)
    before, before_wall = time.monotonic(), time.time()
    claim_id = await sends.claim(ctx.pool, message, channel, lease)
    if claim_id is None:
        return False
    started = time.monotonic()
    # The claim's lease began at some moment of its own. A call that begins too late goes on beyond it, and may follow
    # the looks that find nothing. A machine that is suspended stops the one clock, and a correction moves the other.
    if max(started - before, time.time() - before_wall) > ctx.settings.send_lease_margin:
        about = (message.tenant_id, message.id, claim_id)
        why = "its claim took too long, so it was not sent on it"

        async def give_back() -> None:
            await sends.back(ctx.pool, *about, timedelta(0), "late_claim", why)

        await _insist(give_back, ctx, message, lease.total_seconds())  # in `sending` it would become unknown
        return False
    result = await sender.send(leaving)
    metrics.SEND_SECONDS.labels(channel.provider).observe(time.monotonic() - started)
    metrics.SENDS.labels(channel.provider, type(result).__name__.lower()).inc()

    async def write() -> None:
        async with ctx.transaction() as tx:
            await _record(tx, message, channel, claim_id, result, ctx)

    await _insist(write, ctx, message, lease.total_seconds())
    return True  # what has to wait stands at the head of its lane with its time, and ends the turn there


async def _record(
    tx: database.Connection, message: Outbound, channel: Channel, claim_id: UUID, result: SendResult, ctx: Ctx
) -> None:
    """What came of the call. Each write is void where a receipt or a lost lease has moved the message already. Where it
    was the lease, what the provider took is `sent` all the same, and what it did not take is sent anew."""
    key = (tx, message.tenant_id, message.id, claim_id)
    about = (message.tenant_id, message.channel_id, message.conversation_id, message.id)
    match result:
        case Accepted(external_id):
            status = await sends.sent(*key, external_id)
            if status == "sent":
                await record(tx, Event("message.sent", *about))
        case Throttled(code, retry_after, detail, scope) if (retry_after or 0.0) <= LONGEST_THROTTLE:
            told = BACKOFF.delay(message.attempts + 1) if retry_after is None else max(retry_after, SHORTEST_THROTTLE)
            wait = timedelta(seconds=told)
            await _back(key, about, message, wait, code, detail)
            if scope == "channel":
                await sends.pause(tx, message.tenant_id, message.channel_id, wait)
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
                await consenting.refused(tx, [_refused(message, channel, result.code)])
            # OptedOut, RecipientInvalid, ContentRejected; a template that the window should not bind; configuration
            # that only concerns messages like this one; a throttle so long that it would block the lane for hours.
            if await sends.failed(*key, result.code, result.detail):
                await record(tx, Event("message.failed", *about, detail={"error_code": result.code}))


def _refused(message: Outbound, channel: Channel, code: str) -> consenting.Refused:
    """`message` is as it was read before its claim, so its time is from before the call."""
    return consenting.Refused(
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
    if message.now - (message.admitted_at or message.created_at) < GIVE_UP_AFTER:
        if not await sends.back(*key, wait, code, detail):
            await _anew(key[0], message)
    elif await sends.failed(*key, code, f"given up after {GIVE_UP_AFTER}: {detail}"):
        await record(key[0], Event("message.failed", *about, detail={"error_code": code}))


async def _anew(tx: database.Connection, message: Outbound) -> None:
    """Send anew what was not taken, where the lease ran out before that could be written: it is `unknown` by now, and
    where the provider has no list, it would be given up. Nothing happens where a receipt has moved it."""
    with contextlib.suppress(unknown_sends.Refused):
        named = unknown_sends.Named(message.tenant_id, message.conversation_id, message.id)
        await unknown_sends.resend_absent(tx, named, why=unknown_sends.AS_REFUSED)


async def _insist(write: Callable[[], Awaitable[None]], ctx: Ctx, message: Outbound, lease: float) -> None:
    """Record what came of a call through a database that comes and goes, and locks; the call can't be made again.

    Goes on beyond the lease: a late answer still resolves the `unknown` that the clock has made of it. Of a tenant who
    holds locks one is tried at a time, and all of them once more at the end.
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


async def _stop(ctx: Ctx, channel: Channel, reason: str) -> None:
    async with ctx.transaction() as tx:
        if await channels.stop(tx, channel.tenant_id, channel.id, reason[:500]):
            ctx.log.error("channel stopped", channel=str(channel.id), reason=reason)
            await record(
                tx, Event("channel.stopped", channel.tenant_id, channel.id, detail={"error_code": "credentials"})
            )
