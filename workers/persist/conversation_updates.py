"""Computes what a batch's messages change in their conversations, and which are answered at once. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from uuid import UUID

from shared.bot import WAITING
from shared.domain import consents
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.queue.jobs import ReplyWanted
from shared.store import conversations
from workers.persist.incoming import FromCustomer

# Messages of customers that are not answered: they expect no answer, or have no content that we can read.
UNANSWERED = ("reaction", "edit", "revoke", "unsupported")


@dataclass(frozen=True, slots=True)
class ConversationUpdates:
    """What a batch of customers' messages changes in their conversations, by conversation."""

    by_conversation: Mapping[UUID, conversations.ConversationUpdate]
    at_once: Mapping[UUID, bool]  # to be answered without a debounce → whether its engine waits for another server
    channels: Mapping[UUID, UUID]
    traces: Mapping[UUID, str]

    @classmethod
    def of(cls, new: Sequence[FromCustomer]) -> Self:
        """The updates by these messages; in a conversation, later messages go over earlier ones."""
        by_conversation: dict[UUID, conversations.ConversationUpdate] = {}
        channels: dict[UUID, UUID] = {}
        traces: dict[UUID, str] = {}
        at_once: dict[UUID, bool] = {}
        for one in new:
            m, conversation, reply = one.message, one.conversation, one.channel.settings.reply
            if m.message_type == "system":
                continue
            answered = m.message_type not in UNANSWERED and consents.is_answered(m, one.consent)
            before = by_conversation.get(conversation.id)
            received_at = one.webhook.received_at
            sent_at = one.sent_at or received_at
            by_conversation[conversation.id] = conversations.ConversationUpdate(
                conversation.tenant_id,
                conversation.id,
                contact_id=one.contact_id,
                recipient=m.sender[0].given,
                contact_name=m.contact_name,
                debounce=_debounce(one.channel) if answered else before.debounce if before is not None else None,
                longest_wait=timedelta(seconds=reply.longest_wait),
                received_at=received_at,
                messages=1 if before is None else before.messages + 1,
                sent_at=sent_at if before is None else max(before.sent_at, sent_at),
            )
            channels[conversation.id] = one.channel.id
            traces[conversation.id] = one.webhook.trace
            if reply.engine != "none" and reply.debounce == 0 and answered:
                at_once[conversation.id] = reply.engine in WAITING
        return cls(by_conversation, at_once, channels, traces)

    def replies(self, owed: set[UUID]) -> list[ReplyWanted]:
        """Jobs for those of the conversations `owed` a reply that have no debounce."""
        return [
            ReplyWanted(
                tenant_id=self.by_conversation[i].tenant_id,
                channel_id=self.channels[i],
                conversation_id=i,
                waits=self.at_once[i],
                trace=self.traces[i],
            )
            for i in self.by_conversation
            if i in owed and i in self.at_once
        ]


def _debounce(channel: Channel) -> timedelta | None:
    """How long a reply waits for further messages; None where the channel does not reply."""
    if "reply" in channel.unread:
        return UNREAD_WAIT  # a process that can read the settings decides whether a reply is owed
    reply = channel.settings.reply
    return None if reply.engine == "none" else timedelta(seconds=reply.debounce)
