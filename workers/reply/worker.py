"""ReplyWanted → engine of the channel → a message in the conversation → SendRequested.

A lease lets one process answer a conversation at a time. Several messages in a row get one answer: it is recorded only
if no newer message came while it was made. Engines that wait for another server have a queue of their own, and one
channel holds at most a share of a process's places while they answer. Where the channel says so, the customer sees
meanwhile that the message was read.
"""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta

from shared.bot.base import Answer, Engine, Turn
from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import ReplyWanted, SendRequested
from shared.queue.worker import Context, Worker
from shared.store import reply_leases
from shared.store.messages.inbound import HistoryMessage
from workers.reply.claim import Question, claim_conversation, lease_renewed
from workers.reply.engines import CONCURRENCY, Engines, open_resource
from workers.reply.recording import Void, record_answer

VOID_ANSWERS = 5  # in a row, because the customer goes on writing; then the reply is due again a little later

worker: Worker[ReplyWanted, Engines] = Worker(
    name="reply",
    queues=(topology.REPLY, topology.REPLY_LLM),
    consumes=ReplyWanted,
    publishes=(SendRequested,),
    concurrency=CONCURRENCY,
    open=open_resource,
)


@worker.handle
async def reply(wanted: ReplyWanted, ctx: Context[Engines]) -> None:
    for _ in range(VOID_ANSWERS):
        request = await _answer_once(wanted, ctx)
        if not isinstance(request, Void):
            break
    if isinstance(request, SendRequested):
        await ctx.publish(request.model_copy(update={"trace": wanted.trace}))


@worker.postpone
async def postpone(wanted: ReplyWanted, ctx: Context[Engines], wait: timedelta | None) -> None:
    await reply_leases.postpone(ctx.pool, wanted.tenant_id, wanted.conversation_id, wait)


async def _answer_once(wanted: ReplyWanted, ctx: Context[Engines]) -> SendRequested | Void | None:
    lease = timedelta(seconds=ctx.settings.reply_lease)
    with ExitStack() as meanwhile:
        async with ctx.transaction() as tx:
            question = await claim_conversation(tx, wanted, ctx, lease, meanwhile)
        if question is None:
            return None
        claim, channel = question.claim, question.channel
        # Only an engine that takes time shows that it is typing.
        typing = ctx.resource.by_name[channel.settings.reply.engine].waits
        meanwhile.enter_context(ctx.resource.read_receipts.shown(ctx.pool, channel, question.unread, typing=typing))
        try:
            async with lease_renewed(ctx, wanted, claim, lease):
                answer = await _make(ctx.resource.by_name, question)
        except BaseException:
            # Cancelled or failed: another process may try at once, rather than after the lease.
            with contextlib.suppress(Exception):
                await reply_leases.release(
                    ctx.pool, wanted.tenant_id, wanted.conversation_id, claim.lease_id, timedelta(seconds=1)
                )
            raise
    metrics.REPLIES.labels(channel.settings.reply.engine, answer.outcome).inc()
    return await record_answer(wanted, ctx, claim, channel, question.newest, answer)


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


async def _make(engines: Mapping[str, Engine], question: Question) -> Answer:
    turns = [
        Turn("user" if message.role == "user" else "assistant", message.content or f"[{message.message_type}]")
        for message in question.history
    ]
    channel = question.channel
    settings, new = channel.settings.reply, trailing(question.history, question.claim.unanswered)
    return await engines[settings.engine].answer(settings, turns, new, channel.kind)
