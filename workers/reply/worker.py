"""ReplyWanted → engine of the channel → a message in the conversation → SendReady, or SendRequested.

Several messages in a row get one answer. Engines that answer at once do so for many conversations in one transaction
(at_once.py). Those that wait for another server have a queue of their own, and one channel holds at most a share of a
process's places while they answer. There a lease lets one process answer a conversation at a time, and the answer is
recorded only if no newer message came while it was made. Where the channel says so, the customer sees meanwhile that
the message was read.
"""

import contextlib
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta

from shared.process import metrics
from shared.queue import topology
from shared.queue.jobs import ReplyWanted, SendReady, SendRequested
from shared.queue.worker import Context, Worker
from shared.store import reply_leases
from workers.reply import answering
from workers.reply.at_once import answer_all
from workers.reply.claim import claim_conversation, lease_renewed
from workers.reply.engines import CONCURRENCY, Engines, open_resource
from workers.reply.recording import Void, record_answer

VOID_ANSWERS = 5  # in a row, because the customer goes on writing; then the reply is due again a little later

worker: Worker[ReplyWanted, Engines] = Worker(
    name="reply",
    queues=(topology.REPLY, topology.REPLY_LLM),
    consumes=(ReplyWanted,),
    publishes=(SendRequested, SendReady),
    concurrency=CONCURRENCY,
    batch=50,  # the conversations of a batch are locked together, for some 20 ms
    batches=2,  # one waits for PostgreSQL while the other answers
    one_by_one=(topology.REPLY_LLM,),
    open=open_resource,
)


@worker.handle_batch
async def reply_at_once(wanted: Sequence[ReplyWanted], ctx: Context[Engines]) -> list[ReplyWanted]:
    by_conversation = {one.conversation_id: one for one in wanted}
    batch, jobs = await answer_all(wanted, ctx)
    for one in batch.answered:
        ctx.resource.read_receipts.show(ctx.pool, one.reply.channel, one.reply.unread)
    await ctx.publish(*(job.model_copy(update={"trace": by_conversation[job.conversation_id].trace}) for job in jobs))
    for conversation in batch.aside:
        ctx.resource.aside.begin(by_conversation[conversation.id], lambda one: reply(one, ctx))
    return [one for one in wanted if one.conversation_id in batch.left]


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
                answer = await answering.make(ctx.resource.by_name, channel, question.history, claim.unanswered)
        except BaseException:
            # Cancelled or failed: another process may try at once, rather than after the lease.
            with contextlib.suppress(Exception):
                await reply_leases.release(
                    ctx.pool, wanted.tenant_id, wanted.conversation_id, claim.lease_id, timedelta(seconds=1)
                )
            raise
    metrics.REPLIES.labels(channel.settings.reply.engine, answer.outcome).inc()
    return await record_answer(wanted, ctx, claim, channel, question.newest, answer)
