"""ReplyWanted → engine of the channel → a message in the conversation → SendRequested.

One process answers a conversation at a time, by a lease. Several messages in a row get one answer: an answer is only
recorded if nothing newer came while it was being made. Engines that wait for an outside service have their own queue,
and a bulkhead limits how many of a process's answers are one channel's. Beside it, where the channel says so, the
customer sees that they were read.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.bot import open_engines
from shared.bot.base import Answer, Engine, Turn
from shared.domain import loop_guard, sms_segments
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.domain.consents import OPTED_OUT
from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import ReplyWanted, SendRequested
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import Bulkhead, BulkheadFull, wait_when_full
from shared.settings import Settings
from shared.store import channels, consents, reply_leases
from shared.store.events import Event, record
from shared.store.messages import inbound, outbound
from shared.store.messages.inbound import Said
from shared.store.messages.outbound import NewMessage
from shared.store.reply_leases import ReplyClaim
from workers.reply.read_receipts import Reading, open_reading, to_show

DEEPEST_HISTORY = 200  # messages read for one answer, however many are unanswered
VOID_ANSWERS = 5  # in a row, because the customer goes on writing; then the clock asks again a little later
LOOP = "loop"  # the outcome of a reply that is not made, for the metric
CONCURRENCY = 32  # most of them wait for a model
SHARE = CONCURRENCY // 4  # of these, for one channel whose engine waits for an outside service


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of this process, by the name a channel's settings use, who may wait for them, and what customers see
    while an answer is being made."""

    by_name: Mapping[str, Engine]
    bulkhead: Bulkhead
    reading: Reading


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Engines]:
    async with open_engines(settings) as by_name, open_reading(settings) as reading:
        yield Engines(by_name, Bulkhead(SHARE), reading)


worker: Worker[ReplyWanted, Engines] = Worker(
    name="reply",
    queues=(topology.REPLY, topology.REPLY_LLM),
    consumes=ReplyWanted,
    publishes=(SendRequested,),
    concurrency=CONCURRENCY,
    open=_open,
)


@worker.handle
async def reply(wanted: ReplyWanted, ctx: Context[Engines]) -> None:
    for _ in range(VOID_ANSWERS):
        request = await _answer_once(wanted, ctx)
        if not isinstance(request, _Void):
            break
    if isinstance(request, SendRequested):
        await ctx.publish(request.model_copy(update={"trace": wanted.trace}))


@worker.postpone
async def put_off(wanted: ReplyWanted, ctx: Context[Engines], wait: timedelta | None) -> None:
    await reply_leases.put_off(ctx.pool, wanted.tenant_id, wanted.conversation_id, wait)


class _Void:
    """Something newer came while the answer was being made: it is dropped and a new one is due at once."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A conversation that is ours to answer, and what was said in it."""

    claim: ReplyClaim
    channel: Channel
    said: Sequence[Said]
    newest: UUID  # the customer's last message
    unread: str | None  # the provider's id of what is shown as read


async def _answer_once(wanted: ReplyWanted, ctx: Context[Engines]) -> SendRequested | _Void | None:
    lease = timedelta(seconds=ctx.settings.reply_lease)
    with ExitStack() as meanwhile:
        async with ctx.transaction() as tx:
            question = await _claim(tx, wanted, ctx, lease, meanwhile)
        if question is None:
            return None
        claim, channel = question.claim, question.channel
        # Who answers at once is not seen typing.
        typing = ctx.resource.by_name[channel.settings.reply.engine].waits
        meanwhile.enter_context(ctx.resource.reading.shown(ctx.pool, channel, question.unread, typing=typing))
        try:
            async with _kept(ctx, wanted, claim, lease):
                answer = await _make(ctx.resource.by_name, question)
        except BaseException:
            # Cancelled or failed: somebody else may try at once, rather than after the lease.
            with contextlib.suppress(Exception):
                await reply_leases.let_go(
                    ctx.pool, wanted.tenant_id, wanted.conversation_id, claim.lease_id, timedelta(seconds=1)
                )
            raise
    metrics.REPLIES.labels(channel.settings.reply.engine, answer.outcome).inc()
    return await _record(wanted, ctx, claim, channel, question.newest, answer)


async def _claim(
    tx: database.Connection, wanted: ReplyWanted, ctx: Context[Engines], lease: timedelta, acquired: ExitStack
) -> _Question | None:
    """Take the conversation's lease and, where its engine waits, the channel's bulkhead until `acquired` is closed.

    None where there is nothing to answer, or not now: the row says when.
    """
    key = (wanted.tenant_id, wanted.conversation_id)
    claim = await reply_leases.claim(tx, *key, lease)
    if claim is None:
        return None  # nothing is owed, or somebody is at it: the row remembers that a reply is wanted
    channel = await channels.get(tx, wanted.tenant_id, claim.channel_id)
    if channel is not None and "reply" in channel.unread:
        await reply_leases.let_go(tx, *key, claim.lease_id, UNREAD_WAIT)
        return None
    if channel is None or channel.settings.reply.engine == "none":
        await reply_leases.answered(tx, *key, claim)
        return None
    # By the engine and not by the lane: it may have been another one when the reply was asked for.
    engine = channel.settings.reply.engine
    counted = claim.user_message_count >= loop_guard.FEWEST  # a statement less for nearly every reply
    if counted and loop_guard.is_loop(channel.kind, await inbound.of_late(tx, *key), channel.settings.reply.loop_limit):
        ctx.log.warning("not answered: two machines may be answering each other", conversation=str(key[1]))
        await reply_leases.answered(tx, *key, claim)
        metrics.REPLIES.labels(engine, LOOP).inc()
        return None
    if await consents.answer_stopped(tx, *key):  # no model is asked for what the window would only stop
        await reply_leases.answered(tx, *key, claim)
        metrics.REPLIES.labels(engine, OPTED_OUT).inc()
        return None
    if ctx.resource.by_name[engine].waits:
        try:
            acquired.enter_context(ctx.resource.bulkhead.acquire(channel.id))
        except BulkheadFull:
            await reply_leases.let_go(tx, *key, claim.lease_id, wait_when_full(claim.waited))
            metrics.REPLIES_POSTPONED.labels(engine).inc()
            return None
    depth = channel.settings.reply.llm.history + claim.unanswered
    said = await inbound.history(tx, *key, min(depth, DEEPEST_HISTORY))
    newest = newest_of_customer(said)
    if newest is None or claim.unanswered < 1:
        await reply_leases.answered(tx, *key, claim)
        return None
    return _Question(claim, channel, said, newest, await to_show(tx, channel, wanted.conversation_id))


def newest_of_customer(said: Sequence[Said]) -> UUID | None:
    """The id of the customer's last message; the answer to it is made once."""
    return next((message.id for message in reversed(said) if message.role == "user"), None)


def trailing(said: Sequence[Said], unanswered: int) -> int:
    """How many of the last messages reach back to the first unanswered one of the customer.

    Something of ours may stand among them (a campaign's message): that is not an answer.
    """
    heard = 0
    for count, message in enumerate(reversed(said), start=1):
        heard += message.role == "user"
        if heard == unanswered:
            return count
    return len(said)


async def _make(engines: Mapping[str, Engine], question: _Question) -> Answer:
    turns = [
        Turn("user" if message.role == "user" else "assistant", message.content or f"[{message.message_type}]")
        for message in question.said
    ]
    channel = question.channel
    settings, new = channel.settings.reply, trailing(question.said, question.claim.unanswered)
    return await engines[settings.engine].answer(settings, turns, new, channel.kind)


@asynccontextmanager
async def _kept(ctx: Context[Engines], wanted: ReplyWanted, claim: ReplyClaim, lease: timedelta) -> AsyncIterator[None]:
    """Renew the lease while the engine thinks."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            with contextlib.suppress(Exception):  # if it can't be renewed, recording finds out
                await reply_leases.renew(ctx.pool, wanted.tenant_id, wanted.conversation_id, claim.lease_id, lease)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _record(
    wanted: ReplyWanted,
    ctx: Context[Engines],
    claim: ReplyClaim,
    channel: Channel,
    newest: UUID,
    answer: Answer,
) -> SendRequested | _Void | None:
    """Record the answer if the conversation is as it was when it was made."""
    async with ctx.transaction() as tx:
        state = await reply_leases.lock_for_answer(tx, wanted.tenant_id, wanted.conversation_id, claim.lease_id)
        if state is None or not state.ours:
            return None  # the lease ran out, and whoever has it now answers
        if state.user_message_count != claim.user_message_count and state.active:
            return await _void(tx, wanted, claim, channel)
        await reply_leases.answered(tx, wanted.tenant_id, wanted.conversation_id, claim)
        if not state.active:
            return None  # escalated meanwhile: a person answers
        text = answer.text
        if channel.kind == "sms":
            text = sms_segments.fitted(text, channel.settings.reply.sms_segments)
        request = await outbound.add_outbound(
            tx,
            NewMessage(
                tenant_id=wanted.tenant_id,
                conversation_id=wanted.conversation_id,
                channel_id=channel.id,
                provider=channel.provider,
                dedupe_key=f"reply:{newest}",
                content=text,
                metadata={"engine": channel.settings.reply.engine, "outcome": answer.outcome},
            ),
            timedelta(seconds=ctx.settings.handoff_lease),
        )
        if request is not None:
            await record(
                tx,
                Event("message.queued", wanted.tenant_id, channel.id, wanted.conversation_id, request.message_id),
            )
        return request


async def _void(tx: database.Connection, wanted: ReplyWanted, claim: ReplyClaim, channel: Channel) -> _Void | None:
    """Give the lease back: a new answer is made at once, or when the channel's debounce has gone by in quiet."""
    key = (wanted.tenant_id, wanted.conversation_id, claim.lease_id)
    reply = channel.settings.reply
    if reply.debounce == 0:
        await reply_leases.let_go(tx, *key, timedelta(seconds=1))
        return _Void()
    await reply_leases.let_go_until_quiet(
        tx, *key, timedelta(seconds=reply.debounce), timedelta(seconds=reply.longest_wait)
    )
    return None
