"""Computes what a batch's messages change in their conversations, and which are answered at once. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from shared.bot import WAITING
from shared.domain import consents
from shared.domain.channels import UNREAD_WAIT, Channel
from shared.domain.consents import Change
from shared.domain.model import InboundMessage
from shared.queue.jobs import ReplyWanted, WebhookReceived
from shared.store import conversations

# Messages of customers that are not answered: they expect no answer, or have no content that we can read.
UNANSWERED = ("reaction", "edit", "revoke", "unsupported")
IncomingMessage = tuple[WebhookReceived, Channel, InboundMessage]


@dataclass(frozen=True, slots=True)
class ConversationUpdates:
    """What a batch of customers' messages changes in their conversations, by conversation."""

    by_conversation: Mapping[UUID, conversations.ConversationUpdate]
    at_once: Mapping[UUID, bool]  # to be answered without a debounce → whether its engine waits for another server
    channels: Mapping[UUID, UUID]
    traces: Mapping[UUID, str]

    @classmethod
    def of(
        cls,
        incoming: Sequence[IncomingMessage],
        found: Sequence[conversations.FoundConversation],
        contact_ids: Sequence[UUID],
        places: Iterable[int],
        consent_changes: Mapping[int, Change],
    ) -> Self:
        """The updates by the messages at these places; in a conversation, later messages go over earlier ones."""
        by_conversation: dict[UUID, conversations.ConversationUpdate] = {}
        channels: dict[UUID, UUID] = {}
        traces: dict[UUID, str] = {}
        at_once: dict[UUID, bool] = {}
        for place in sorted(places):
            webhook, channel, m = incoming[place]
            if m.message_type == "system":
                continue
            conversation = found[place]
            reply = channel.settings.reply
            answered = m.message_type not in UNANSWERED and consents.is_answered(m, consent_changes.get(place))
            before = by_conversation.get(conversation.id)
            sent_at = provider_time(m, webhook.received_at) or webhook.received_at
            by_conversation[conversation.id] = conversations.ConversationUpdate(
                conversation.tenant_id,
                conversation.id,
                contact_id=contact_ids[place],
                recipient=m.sender[0].given,
                contact_name=m.contact_name,
                debounce=_debounce(channel) if answered else before.debounce if before is not None else None,
                longest_wait=timedelta(seconds=reply.longest_wait),
                received_at=webhook.received_at,
                messages=1 if before is None else before.messages + 1,
                sent_at=sent_at if before is None else max(before.sent_at, sent_at),
            )
            channels[conversation.id] = channel.id
            traces[conversation.id] = webhook.trace
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


def provider_time(message: InboundMessage, received_at: datetime) -> datetime | None:
    """The provider's time of a message, never later than ours; None for a mail.

    A mail's date is by its sender's clock. With a slow clock, a customer who writes again after having reported a mail
    as spam would seem to have written before.
    """
    if message.timestamp is None or message.channel_kind == "email":
        return None
    return min(message.timestamp, received_at)


def _debounce(channel: Channel) -> timedelta | None:
    """How long a reply waits for further messages; None where the channel does not reply."""
    if "reply" in channel.unread:
        return UNREAD_WAIT  # a process that can read the settings decides whether a reply is owed
    reply = channel.settings.reply
    return None if reply.engine == "none" else timedelta(seconds=reply.debounce)
