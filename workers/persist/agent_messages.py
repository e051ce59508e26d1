"""Stores what agents wrote in a provider's own interface, and hands the conversation over to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.actions import delivery_receipts
from shared.database import Connection
from shared.domain.channels import Channel
from shared.domain.model import AgentMessage, Receipt
from shared.queue.jobs import SendRequested
from shared.store import contacts, conversations
from shared.store.events import Event, record
from shared.store.messages import agent_messages, agent_reports
from shared.store.messages.agent_messages import AgentMessageRow


@dataclass(frozen=True, slots=True)
class IncomingAgentMessage:
    """An agent's message with its channel."""

    channel: Channel
    message: AgentMessage
    received_at: datetime
    place: int  # among all messages of its batch, in the order in which they were written

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


def person(incoming: IncomingAgentMessage) -> contacts.Person:
    """The customer to whom the agent wrote."""
    return contacts.Person(incoming.channel.tenant_id, incoming.message.customer, incoming.message.contact_name)


def conversation(incoming: IncomingAgentMessage, contact_id: UUID) -> conversations.WantedConversation:
    """The conversation in which the agent wrote."""
    customer = incoming.message.customer
    return conversations.WantedConversation(
        tenant_id=incoming.channel.tenant_id,
        channel_id=incoming.channel.id,
        provider=incoming.channel.provider,
        addresses=tuple(address.canonical for address in customer),
        recipient=customer[0].given,
        phone=next((address.given for address in customer if address.kind == "phone"), None),
        contact_id=contact_id,
        contact_name=incoming.message.contact_name,
        kommo_chat_id=next((address.canonical for address in customer if address.kind == "kommo_chat"), None),
    )


async def apply(
    connection: Connection,
    incoming: Sequence[IncomingAgentMessage],
    found: Sequence[conversations.FoundConversation],
    began: datetime | None,
    handoff: timedelta,
) -> list[SendRequested]:
    """Store agents' messages in their conversations, which the caller has locked, and escalate these; returns the jobs
    that follow. `began` is the time of the batch's place 0, where customers' messages have it.

    A provider also echoes the messages that we sent. We know an echo by its id. One that comes before our own call has
    ended has an id that we don't know yet: it is a receipt for the one message that it can be.
    """
    if not incoming:
        return []
    written = [
        AgentMessageRow(
            tenant_id=one.channel.tenant_id,
            conversation_id=conversation.id,
            channel_id=one.channel.id,
            provider=one.channel.provider,
            message=one.message,
            received_at=one.received_at,
            place=one.place,
        )
        for one, conversation in zip(incoming, found, strict=True)
    ]
    suspects = [index for index, one in enumerate(incoming) if one.may_be_ours]
    echoes = await agent_messages.echoes(connection, {index: written[index] for index in suspects})
    ours = {index for index, ids in echoes.items() if ids or incoming[index].is_ours}
    inserted = await agent_messages.insert(
        connection, {i: one for i, one in enumerate(written) if i not in ours}, began
    )
    await agent_reports.owe(
        connection, [one for i, one in enumerate(written) if i not in ours and incoming[i].to_be_reported]
    )
    theirs = {
        (written[i].tenant_id, written[i].conversation_id): incoming[i]
        for i in inserted
        if incoming[i].by_person and incoming[i].channel.settings.manager.escalate
    }
    escalated = await agent_messages.escalate(connection, list(theirs))
    await record(
        connection,
        *(
            Event(
                "message.recorded",
                *_place(written[i]),
                message_id,
                detail={"by": "manager" if incoming[i].by_person else "bot", "type": written[i].message.message_type},
            )
            for i, message_id in inserted.items()
        ),
        *(
            Event("conversation.escalated", tenant_id, theirs[tenant_id, conversation_id].channel.id, conversation_id)
            for tenant_id, conversation_id in escalated
        ),
    )
    return await delivery_receipts.apply(
        connection,
        [
            delivery_receipts.IncomingReceipt(
                written[i].tenant_id,
                written[i].channel_id,
                written[i].provider,
                Receipt(written[i].message.external_id, "sent", echoes[i][0], timestamp=written[i].message.timestamp),
                written[i].received_at,
            )
            for i in ours
            if len(echoes[i]) == 1
        ],
        handoff,
    )


def _place(written: AgentMessageRow) -> tuple[UUID, UUID, UUID]:
    return written.tenant_id, written.channel_id, written.conversation_id
