"""A message on its way into the database: one record, which each stage of persist completes. No I/O."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from shared.domain.channels import Channel
from shared.domain.consents import Change
from shared.domain.model import Address, AgentMessage, InboundMessage
from shared.queue.jobs import WebhookReceived
from shared.store.contacts import Person
from shared.store.conversations import FoundConversation, WantedConversation
from shared.store.messages.agent_messages import AgentMessageRow
from shared.store.messages.inbound import Inbound


@dataclass(slots=True, eq=False)
class Incoming(ABC):
    """A customer's or an agent's message, with its webhook and channel.

    What it is created without has no value before the stage that finds it: contact, conversation, message id.
    """

    webhook: WebhookReceived
    channel: Channel
    message: InboundMessage | AgentMessage
    place: int  # among all messages of its batch, in the order in which they were written
    contact_id: UUID = field(init=False)
    is_new_contact: bool = field(init=False)
    conversation: FoundConversation = field(init=False)

    @property
    @abstractmethod
    def customer(self) -> tuple[Address, ...]:
        """The customer's addresses; the first one is where an answer goes."""

    @property
    def person(self) -> Person:
        """The customer as their contact is found or made."""
        return Person(self.channel.tenant_id, self.customer, self.message.contact_name)

    @property
    def wanted_conversation(self) -> WantedConversation:
        """The conversation as it is found or made."""
        return WantedConversation(
            tenant_id=self.channel.tenant_id,
            channel_id=self.channel.id,
            provider=self.channel.provider,
            addresses=tuple(address.canonical for address in self.customer),
            recipient=self.customer[0].given,
            phone=next((address.given for address in self.customer if address.kind == "phone"), None),
            contact_id=self.contact_id,
            contact_name=self.message.contact_name,
            kommo_chat_id=next((address.canonical for address in self.customer if address.kind == "kommo_chat"), None),
        )


@dataclass(slots=True, eq=False)
class FromCustomer(Incoming):
    """What a customer wrote, with the opt-in or opt-out that it is."""

    message: InboundMessage
    consent: Change | None
    message_id: UUID = field(init=False)  # ours

    @property
    def customer(self) -> tuple[Address, ...]:
        return self.message.sender

    @property
    def sent_at(self) -> datetime | None:
        """The provider's time of the message, never later than ours; None for a mail.

        A mail's date is by its sender's clock. With a slow clock, a customer who writes again after having reported a
        mail as spam would seem to have written before.
        """
        if self.message.timestamp is None or self.message.channel_kind == "email":
            return None
        return min(self.message.timestamp, self.webhook.received_at)

    @property
    def row(self) -> Inbound:
        m = self.message
        return Inbound(
            id=self.message_id,
            tenant_id=self.channel.tenant_id,
            conversation_id=self.conversation.id,
            channel_id=self.channel.id,
            provider=self.channel.provider,
            external_id=m.external_id,
            message_type=m.message_type,
            content=m.text,
            received_at=self.webhook.received_at,
            provider_timestamp=self.sent_at,
            media=m.media,
            metadata=m.extra,
            reply_to=m.reply_to,
            contact_name=m.contact_name,
            contact_id=self.contact_id,
            place=self.place,
        )


@dataclass(slots=True, eq=False)
class FromAgent(Incoming):
    """What an agent, or a bot, wrote in a provider's own interface."""

    message: AgentMessage

    @property
    def customer(self) -> tuple[Address, ...]:
        return self.message.customer

    @property
    def is_ours(self) -> bool:
        """Whether its author is our own bot: then it is the echo of a message that we sent."""
        return self.message.author_id == self.channel.settings.manager.own_bot != ""

    @property
    def may_be_ours(self) -> bool:
        return self.is_ours or not self.channel.settings.manager.own_bot

    @property
    def to_be_reported(self) -> bool:
        return self.message.awaits_report and self.channel.settings.manager.report

    @property
    def by_person(self) -> bool:
        bots = self.channel.settings.manager.bots
        return not (self.is_ours or self.message.automatic or self.message.author_id in bots)

    @property
    def row(self) -> AgentMessageRow:
        return AgentMessageRow(
            tenant_id=self.channel.tenant_id,
            conversation_id=self.conversation.id,
            channel_id=self.channel.id,
            provider=self.channel.provider,
            message=self.message,
            received_at=self.webhook.received_at,
            place=self.place,
        )
