"""Answers many conversations in one transaction, by engines that don't wait for another server.

The conversations are locked from the question to the answer. Nothing changes in them meanwhile, so no lease is taken.
An answer that the window has nothing to decide on is `ready` at once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from shared import database
from shared.actions.admission import as_it_is
from shared.bot.base import Answer, Engine
from shared.domain import loop_guard
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.domain.consents import OPTED_OUT
from shared.process import metrics
from shared.queue.jobs import ReplyWanted, SendReady, SendRequested
from shared.queue.worker import Context
from shared.store import channels, consents, reply_leases
from shared.store.messages import answers, inbound
from shared.store.messages.answers import NewAnswer
from shared.store.messages.inbound import HistoryMessage
from shared.store.messages.outbound_rows import Outbound, send_job
from shared.store.reply_leases import OwingConversation
from workers.reply import answering
from workers.reply.engines import LOOP, Engines
from workers.reply.read_receipts import messages_to_acknowledge

LONGEST: Final = 0.05  # seconds that the answers of a batch may take: persist waits for the conversations meanwhile
MOST_READ: Final = 2000  # messages of all histories of a batch, each up to 16 KB

Course = Literal["nothing", "drop", "defer", "settle", "aside", "answer"]


@dataclass(slots=True)
class Reply:
    """A conversation of a batch on its way to its answer."""

    conversation: OwingConversation
    channel: Channel
    history: Sequence[HistoryMessage] = ()
    newest: UUID | None = None  # the customer's last message
    unread: str | None = None  # the provider's id of the message to acknowledge as read

    @property
    def engine(self) -> str:
        return self.channel.settings.reply.engine


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply with its answer. `message`: the answer as the rules of admission see it."""

    reply: Reply
    answer: Answer
    message: Outbound


@dataclass(slots=True)
class Batch:
    """What becomes of the conversations of a batch. Each of the replies is answered, settled without an answer, or
    left."""

    replies: list[Reply] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    settled: list[OwingConversation] = field(default_factory=list)
    unanswered: list[tuple[Reply, str]] = field(default_factory=list)  # of those settled: the outcome, for the metric
    deferred: list[OwingConversation] = field(default_factory=list)
    dropped: list[OwingConversation] = field(default_factory=list)
    aside: list[OwingConversation] = field(default_factory=list)
    left: set[UUID] = field(default_factory=set)

    def settle(self, outcomes: Mapping[UUID, str]) -> None:
        """Settle the replies to these conversations without an answer."""
        stopped = [reply for reply in self.replies if reply.conversation.id in outcomes]
        self.settled += [reply.conversation for reply in stopped]
        self.unanswered += [(reply, outcomes[reply.conversation.id]) for reply in stopped]
        self.replies = [reply for reply in self.replies if reply.conversation.id not in outcomes]

    def leave(self, replies: Sequence[Reply]) -> None:
        """Leave these to be handled alone: they are the last ones of the batch."""
        self.left |= {reply.conversation.id for reply in replies}
        self.replies = self.replies[: len(self.replies) - len(replies)]


def course_of(conversation: OwingConversation, channel: Channel | None, engines: Mapping[str, Engine]) -> Course:
    """What is to be done about a conversation of which a job says that it is owed a reply. `channel` None: deleted."""
    if not conversation.owed:
        return "nothing"
    if not conversation.active:
        return "drop"
    if conversation.leased:
        return "nothing"  # another process is answering: the row stays due
    if channel is not None and "reply" in channel.unread:
        return "defer"
    if channel is None or channel.settings.reply.engine == "none" or conversation.unanswered < 1:
        return "settle"
    # By the engine and not by the queue: the channel may have had another engine when the job was made.
    return "aside" if engines[channel.settings.reply.engine].waits else "answer"


async def answer_all(
    wanted: Sequence[ReplyWanted], ctx: Context[Engines]
) -> tuple[Batch, list[SendRequested | SendReady]]:
    """Answer these conversations; returns what became of them, and the jobs to publish. All is committed."""
    async with ctx.transaction() as tx:
        batch = await _sort_out(tx, wanted, ctx.resource.by_name)
        await _stop(tx, batch)
        await _read(tx, batch)
        await _answer(batch, ctx.resource.by_name)
        added = await _record(tx, batch, timedelta(seconds=ctx.settings.handoff_lease))
    for reply, outcome in batch.unanswered:
        metrics.REPLIES.labels(reply.engine, outcome).inc()
    for one in batch.answered:
        metrics.REPLIES.labels(one.reply.engine, one.answer.outcome).inc()
    return batch, [_job(one, added[one.message.id]) for one in batch.answered if one.message.id in added]


async def _sort_out(tx: database.Connection, wanted: Sequence[ReplyWanted], engines: Mapping[str, Engine]) -> Batch:
    """Lock the conversations. Those that another session has locked are left, but the lock of a single one is waited
    for."""
    keys = {(one.tenant_id, one.conversation_id) for one in wanted}
    alone = len(wanted) == 1
    locked = await reply_leases.lock_owing(tx, keys, wait=alone)
    found = await channels.by_key(tx, {(one.tenant_id, one.channel_id) for one in locked if one.owed})
    batch = Batch(left=set() if alone else {key[1] for key in keys} - {one.id for one in locked})
    for one in locked:
        channel = found.get((one.tenant_id, one.channel_id))
        match course_of(one, channel, engines):
            case "drop":
                batch.dropped.append(one)
            case "defer":
                batch.deferred.append(one)
            case "settle":
                batch.settled.append(one)
            case "aside":
                batch.aside.append(one)
            case "answer":
                assert channel is not None, "a deleted channel has no engine"
                batch.replies.append(Reply(one, channel))
    return batch


async def _stop(tx: database.Connection, batch: Batch) -> None:
    """Settle what must not be answered: a conversation of two machines, one whose customer has opted out."""
    # With fewer messages of the customer nothing is counted.
    counted = [
        one.conversation.key for one in batch.replies if one.conversation.user_message_count >= loop_guard.FEWEST
    ]
    exchanges = await inbound.of_late(tx, counted)
    loops = {
        one.conversation.id: LOOP
        for one in batch.replies
        if (of_late := exchanges.get(one.conversation.id)) is not None
        and loop_guard.is_loop(one.channel.kind, of_late, one.channel.settings.reply.loop_limit)
    }
    batch.settle(loops)
    stopped = await consents.answers_stopped(tx, [one.conversation.key for one in batch.replies])
    batch.settle(dict.fromkeys(stopped, OPTED_OUT))


async def _read(tx: database.Connection, batch: Batch) -> None:
    """Read the histories, and which messages are to be acknowledged as read. What goes beyond MOST_READ is left, except
    the first one."""
    asked: list[tuple[UUID, UUID, int]] = []
    left = MOST_READ
    for one in batch.replies:
        depth = answering.depth(one.channel, one.conversation.unanswered)
        left -= depth
        if left < 0 and asked:
            break
        asked.append((*one.conversation.key, depth))
    batch.leave(batch.replies[len(asked) :])
    histories = await inbound.histories(tx, asked)
    for one in batch.replies:
        one.history = histories[one.conversation.id]
        one.newest = answering.newest_of_customer(one.history)
    batch.settled += [one.conversation for one in batch.replies if one.newest is None]
    batch.replies = [one for one in batch.replies if one.newest is not None]
    unread = await messages_to_acknowledge(tx, [(one.channel, one.conversation.id) for one in batch.replies])
    for one in batch.replies:
        one.unread = unread.get(one.conversation.id)


async def _answer(batch: Batch, engines: Mapping[str, Engine]) -> None:
    """Have the engines answer. What they don't come to in LONGEST is left, except the first one."""
    until = time.monotonic() + LONGEST
    for place, one in enumerate(batch.replies):
        if place and time.monotonic() > until:
            batch.leave(batch.replies[place:])
            return
        answer = await answering.make(engines, one.channel, one.history, one.conversation.unanswered)
        batch.answered.append(Answered(one, answer, _message(one, answering.text_of(answer, one.channel))))


def _message(one: Reply, text: str) -> Outbound:
    return Outbound(
        id=database.new_id(),
        tenant_id=one.conversation.tenant_id,
        conversation_id=one.conversation.id,
        channel_id=one.channel.id,
        content=text,
        recipient=one.conversation.recipient,
        contact_name=one.conversation.contact_name,
        last_user_message_at=one.conversation.last_user_message_at,
        created_at=one.conversation.now,
        now=one.conversation.now,
        by_engine=True,
    )


async def _record(tx: database.Connection, batch: Batch, handoff: timedelta) -> dict[UUID, str]:
    """Write what became of each conversation; returns the states of the answers that are new, by their ids."""
    await reply_leases.drop_due(tx, [one.key for one in batch.dropped])
    await reply_leases.defer(tx, batch.deferred, UNREAD_WAIT)
    await reply_leases.settle(tx, batch.settled)
    return await answers.add(tx, [_row(one) for one in batch.answered], handoff)


def _row(one: Answered) -> NewAnswer:
    newest, admitted = one.reply.newest, as_it_is(one.message, one.reply.channel)
    assert newest is not None, "without a message nothing is answered"
    facts = admitted.facts if admitted is not None else None
    return NewAnswer(
        id=one.message.id,
        tenant_id=one.message.tenant_id,
        conversation_id=one.message.conversation_id,
        channel_id=one.message.channel_id,
        provider=one.reply.channel.provider,
        answers=newest,
        content=one.message.content,
        metadata={**answering.metadata_of(one.answer, one.reply.channel), **(facts or {})},
        user_message_count=one.reply.conversation.user_message_count,
        admitted=admitted is not None,
    )


def _job(one: Answered, status: str) -> SendRequested | SendReady:
    if status == "ready":
        return send_job(one.message, one.reply.channel.provider)
    return SendRequested(
        tenant_id=one.message.tenant_id,
        channel_id=one.message.channel_id,
        conversation_id=one.message.conversation_id,
        message_id=one.message.id,
    )
