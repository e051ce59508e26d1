"""Queues an answer, if the conversation is as it was when the answer was begun."""

from datetime import timedelta
from uuid import UUID

from shared import database
from shared.bot.base import Answer
from shared.domain.channels import Channel
from shared.queue.jobs import ReplyWanted, SendRequested
from shared.queue.worker import Context
from shared.store import reply_leases
from shared.store.events import Event, record
from shared.store.messages import outbound
from shared.store.messages.outbound import NewMessage
from shared.store.reply_leases import ReplyClaim
from workers.reply.answering import metadata_of, text_of
from workers.reply.engines import Engines


class Void:
    """A newer message came while the answer was made: it is dropped, and a new one is due at once."""


async def record_answer(
    wanted: ReplyWanted,
    ctx: Context[Engines],
    claim: ReplyClaim,
    channel: Channel,
    newest: UUID,
    answer: Answer,
) -> SendRequested | Void | None:
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
        request = await outbound.add_outbound(
            tx,
            NewMessage(
                tenant_id=wanted.tenant_id,
                conversation_id=wanted.conversation_id,
                channel_id=channel.id,
                provider=channel.provider,
                dedupe_key=f"reply:{newest}",
                content=text_of(answer, channel),
                metadata=metadata_of(answer, channel),
            ),
            timedelta(seconds=ctx.settings.handoff_lease),
        )
        if request is not None:
            await record(
                tx,
                Event("message.queued", wanted.tenant_id, channel.id, wanted.conversation_id, request.message_id),
            )
        return request


async def _void(tx: database.Connection, wanted: ReplyWanted, claim: ReplyClaim, channel: Channel) -> Void | None:
    """Release the lease: a new answer is due at once, or after the channel's debounce."""
    key = (wanted.tenant_id, wanted.conversation_id, claim.lease_id)
    reply = channel.settings.reply
    if reply.debounce == 0:
        await reply_leases.release(tx, *key, timedelta(seconds=1))
        return Void()
    await reply_leases.release_until_quiet(
        tx, *key, timedelta(seconds=reply.debounce), timedelta(seconds=reply.longest_wait)
    )
    return None
