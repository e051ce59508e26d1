"""Takes a conversation's reply lease, and reads what is to be answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.domain import loop_guard
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.domain.consents import OPTED_OUT
from shared.process import metrics
from shared.process.tasks import cancel
from shared.queue.jobs import ReplyWanted
from shared.queue.worker import Context
from shared.resilience.bulkhead import BulkheadFull, wait_when_full
from shared.store import channels, consents, reply_leases
from shared.store.messages import inbound
from shared.store.messages.inbound import HistoryMessage
from shared.store.reply_leases import ReplyClaim
from workers.reply import answering
from workers.reply.engines import LOOP, Engines
from workers.reply.read_receipts import messages_to_acknowledge


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation that this process has the lease to answer, with its history."""

    claim: ReplyClaim
    channel: Channel
    history: Sequence[HistoryMessage]
    newest: UUID  # the customer's last message
    unread: str | None  # the provider's id of the message to acknowledge as read


async def claim_conversation(
    tx: database.Connection, wanted: ReplyWanted, ctx: Context[Engines], lease: timedelta, acquired: ExitStack
) -> Question | None:
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
    of_late = (await inbound.of_late(tx, [key] if counted else [])).get(wanted.conversation_id)
    if of_late is not None and loop_guard.is_loop(channel.kind, of_late, channel.settings.reply.loop_limit):
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
    history = await inbound.history(tx, *key, answering.depth(channel, claim.unanswered))
    newest = answering.newest_of_customer(history)
    if newest is None or claim.unanswered < 1:
        await reply_leases.answered(tx, *key, claim)
        return None
    unread = await messages_to_acknowledge(tx, [(channel, wanted.conversation_id)])
    return Question(claim, channel, history, newest, unread.get(wanted.conversation_id))


@asynccontextmanager
async def lease_renewed(
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
