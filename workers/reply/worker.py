"""ReplyWanted → engine of the channel → a message in the conversation → SendRequested.

A lease lets one process answer a conversation at a time. Several messages in a row get one answer: it is recorded only
if no newer message came while it was made. Engines that wait for another server have a queue of their own, and one
channel holds at most a share of a process's places while they answer. Where the channel says so, the customer sees
meanwhile that the message was read.
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
from shared.process.tasks import cancel
from shared.queue import topology
from shared.queue.jobs import ReplyWanted, SendRequested
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import Bulkhead, BulkheadFull, wait_when_full
from shared.settings import Settings
from shared.store import channels, consents, reply_leases
from shared.store.events import Event, record
from shared.store.messages import inbound, outbound
from shared.store.messages.inbound import HistoryMessage
from shared.store.messages.outbound import NewMessage
from shared.store.reply_leases import ReplyClaim
from workers.reply.read_receipts import ReadReceipts, message_to_acknowledge, open_read_receipts

DEEPEST_HISTORY = 200  # messages read for one answer, however many are unanswered
VOID_ANSWERS = 5  # in a row, because the customer goes on writing; then the reply is due again a little later
LOOP = "loop"  # the outcome of a reply that is not made, for the metric
CONCURRENCY = 32  # most of them wait for a model
SHARE = CONCURRENCY // 4  # of these, for one channel whose engine waits for another server


@dataclass(frozen=True, slots=True)
class Engines:
    """This process's engines by their name in a channel's settings, the places of those that wait, and read
    receipts."""

    by_name: Mapping[str, Engine]
    bulkhead: Bulkhead
    read_receipts: ReadReceipts


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Engines]:
    async with open_engines(settings) as by_name, open_read_receipts(settings) as read_receipts:
        yield Engines(by_name, Bulkhead(SHARE), read_receipts)


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
async def postpone(wanted: ReplyWanted, ctx: Context[Engines], wait: timedelta | None) -> None:
    await reply_leases.postpone(ctx.pool, wanted.tenant_id, wanted.conversation_id, wait)


class _Void:
    """A newer message came while the answer was made: it is dropped, and a new one is due at once."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A conversation that this process has the lease to answer, with its history."""

    claim: ReplyClaim
    channel: Channel
    history: Sequence[HistoryMessage]
    newest: UUID  # the customer's last message
    unread: str | None  # the provider's id of the message to acknowledge as read


async def _answer_once(wanted: ReplyWanted, ctx: Context[Engines]) -> SendRequested | _Void | None:
    lease = timedelta(seconds=ctx.settings.reply_lease)
    with ExitStack() as meanwhile:
        async with ctx.transaction() as tx:
            question = await _claim(tx, wanted, ctx, lease, meanwhile)
        if question is None:
            return None
        claim, channel = question.claim, question.channel
        # Only an engine that takes time shows that it is typing.
        typing = ctx.resource.by_name[channel.settings.reply.engine].waits
        meanwhile.enter_context(ctx.resource.read_receipts.shown(ctx.pool, channel, question.unread, typing=typing))
        try:
            async with _lease_renewed(ctx, wanted, claim, lease):
                answer = await _make(ctx.resource.by_name, question)
        except BaseException:
            # Cancelled or failed: another process may try at once, rather than after the lease.
            with contextlib.suppress(Exception):
                await reply_leases.release(
                    ctx.pool, wanted.tenant_id, wanted.conversation_id, claim.lease_id, timedelta(seconds=1)
                )
            raise
    metrics.REPLIES.labels(channel.settings.reply.engine, answer.outcome).inc()
    return await _record(wanted, ctx, claim, channel, question.newest, answer)


async def _claim(
    tx: database.Connection, wanted: ReplyWanted, ctx: Context[Engines], lease: timedelta, acquired: ExitStack
) -> _Question | None:
    """Take the conversation's reply lease and, where its engine waits, one of its channel's places until `place`
    closes.

    None where there is nothing to answer, or not now; then the row has a due time.
    """
    key = (wanted.tenant_id, wanted.conversation_id)
    claim = await reply_leases.claim(tx, *key, lease)
    if claim is None:
        return None  # nothing is owed, or another process is answering: the row stays due
    channel = await channels.get(tx, wanted.tenant_id, claim.channel_id)
    if channel is not None and "reply" in channel.unread:
        await reply_leases.release(tx, *key, claim.lease_id, UNREAD_WAIT)
        return None
    if channel is None or channel.settings.reply.engine == "none":
        await reply_leases.answered(tx, *key, claim)
        return None
    # By the engine and not by the queue: the channel may have had another engine when the job was made.
    engine = channel.settings.reply.engine
    counted = claim.user_message_count >= loop_guard.FEWEST  # saves a statement for nearly every reply
    if counted and loop_guard.is_loop(channel.kind, await inbound.of_late(tx, *key), channel.settings.reply.loop_limit):
        ctx.log.warning("not answered: two machines may be answering each other", conversation=str(key[1]))
        await reply_leases.answered(tx, *key, claim)
        metrics.REPLIES.labels(engine, LOOP).inc()
        return None
    if await consents.answer_stopped(tx, *key):  # no model is called for an answer that would not leave
        await reply_leases.answered(tx, *key, claim)
        metrics.REPLIES.labels(engine, OPTED_OUT).inc()
        return None
    if ctx.resource.by_name[engine].waits:
        try:
            acquired.enter_context(ctx.resource.bulkhead.acquire(channel.id))
        except BulkheadFull:
            await reply_leases.release(tx, *key, claim.lease_id, wait_when_full(claim.waited))
            metrics.REPLIES_POSTPONED.labels(engine).inc()
            return None
    depth = channel.settings.reply.llm.history + claim.unanswered
    history = await inbound.history(tx, *key, min(depth, DEEPEST_HISTORY))
    newest = newest_of_customer(history)
    if newest is None or claim.unanswered < 1:
        await reply_leases.answered(tx, *key, claim)
        return None
    return _Question(claim, channel, history, newest, await message_to_acknowledge(tx, channel, wanted.conversation_id))


def newest_of_customer(history: Sequence[HistoryMessage]) -> UUID | None:
    """The id of the customer's last message; it is answered once."""
    return next((message.id for message in reversed(history) if message.role == "user"), None)


def trailing(history: Sequence[HistoryMessage], unanswered: int) -> int:
    """How many of the last messages reach back to the customer's first unanswered one.

    A message of ours among them (a campaign's) is not an answer.
    """
    from_customer = 0
    for count, message in enumerate(reversed(history), start=1):
        from_customer += message.role == "user"
        if from_customer == unanswered:
            return count
    return len(history)


async def _make(engines: Mapping[str, Engine], question: _Question) -> Answer:
    turns = [
        Turn("user" if message.role == "user" else "assistant", message.content or f"[{message.message_type}]")
        for message in question.history
    ]
    channel = question.channel
    settings, new = channel.settings.reply, trailing(question.history, question.claim.unanswered)
    return await engines[settings.engine].answer(settings, turns, new, channel.kind)


@asynccontextmanager
async def _lease_renewed(
    ctx: Context[Engines], wanted: ReplyWanted, claim: ReplyClaim, lease: timedelta
) -> AsyncIterator[None]:
    """Renew the lease while the engine makes the answer."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            with contextlib.suppress(Exception):  # a lost lease shows when the answer is recorded
                await reply_leases.renew(ctx.pool, wanted.tenant_id, wanted.conversation_id, claim.lease_id, lease)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        await cancel([renewing])


async def _record(
    wanted: ReplyWanted,
    ctx: Context[Engines],
    claim: ReplyClaim,
    channel: Channel,
    newest: UUID,
    answer: Answer,
) -> SendRequested | _Void | None:
    """Queue the answer if the conversation is as it was when the answer was begun."""
    async with ctx.transaction() as tx:
        state = await reply_leases.lock_for_answer(tx, wanted.tenant_id, wanted.conversation_id, claim.lease_id)
        if state is None or not state.ours:
            return None  # the lease ran out, and the process that has it now answers
        if state.user_message_count != claim.user_message_count and state.active:
            return await _void(tx, wanted, claim, channel)
        await reply_leases.answered(tx, wanted.tenant_id, wanted.conversation_id, claim)
        if not state.active:
            return None  # escalated meanwhile: an agent answers
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
    """Release the lease: a new answer is due at once, or after the channel's debounce."""
    key = (wanted.tenant_id, wanted.conversation_id, claim.lease_id)
    reply = channel.settings.reply
    if reply.debounce == 0:
        await reply_leases.release(tx, *key, timedelta(seconds=1))
        return _Void()
    await reply_leases.release_until_quiet(
        tx, *key, timedelta(seconds=reply.debounce), timedelta(seconds=reply.longest_wait)
    )
    return None
