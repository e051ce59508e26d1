"""What managers wrote in a provider's own interface: kept in the conversation, which is theirs from then on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.actions import delivery_receipts
from shared.database import Connection
from shared.domain.channels import Channel
from shared.domain.model import ManagerMessage, Receipt
from shared.queue.jobs import SendRequested
from shared.store import contacts, conversations
from shared.store.events import Event, record
from shared.store.messages import agent_messages, agent_reports
from shared.store.messages.agent_messages import Written


@dataclass(frozen=True, slots=True)
class Arrived:
    """A manager's message with where it came in."""

    channel: Channel
    message: ManagerMessage
    received_at: datetime
    place: int  # among all messages of its batch, in the order in which they were said

    @property
    def is_ours(self) -> bool:
        """Whether its author is our own bot, so that it is the echo of what we sent ourselves."""
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


def person(arrived: Arrived) -> contacts.Person:
    """The customer to whom the manager wrote."""
    return contacts.Person(arrived.channel.tenant_id, arrived.message.customer, arrived.message.contact_name)


def conversation(arrived: Arrived, contact_id: UUID) -> conversations.Wanted:
    """The conversation in which the manager wrote."""
    customer = arrived.message.customer
    return conversations.Wanted(
        tenant_id=arrived.channel.tenant_id,
        channel_id=arrived.channel.id,
        provider=arrived.channel.provider,
        addresses=tuple(address.canonical for address in customer),
        recipient=customer[0].given,
        phone=next((address.given for address in customer if address.kind == "phone"), None),
        contact_id=contact_id,
        contact_name=arrived.message.contact_name,
        kommo_chat_id=next((address.canonical for address in customer if address.kind == "kommo_chat"), None),
    )


async def apply(
    connection: Connection,
    arrived: Sequence[Arrived],
    found: Sequence[conversations.Found],
    began: datetime | None,
    handoff: timedelta,
) -> list[SendRequested]:
    """Keep managers' messages in their conversations, which the caller has locked, and hand these over to them;
    returns the jobs to publish. `began` is the time of the batch's place 0, where customers' messages have it.

    An echo of a message of ours is no manager's. It has the id that we know, or else comes before our own call has
    ended: then it is a receipt for the one message that it can be.
    """
    if not arrived:
        return []
    written = [
        Written(
            tenant_id=one.channel.tenant_id,
            conversation_id=talk.id,
            channel_id=one.channel.id,
            provider=one.channel.provider,
            message=one.message,
            received_at=one.received_at,
            place=one.place,
        )
        for one, talk in zip(arrived, found, strict=True)
    ]
    suspects = [index for index, one in enumerate(arrived) if one.may_be_ours]
    echoes = await agent_messages.echoes(connection, {index: written[index] for index in suspects})
    ours = {index for index, ids in echoes.items() if ids or arrived[index].is_ours}
    kept = await agent_messages.insert(connection, {i: one for i, one in enumerate(written) if i not in ours}, began)
    await agent_reports.owe(
        connection, [one for i, one in enumerate(written) if i not in ours and arrived[i].to_be_reported]
    )
    theirs = {
        (written[i].tenant_id, written[i].conversation_id): arrived[i]
        for i in kept
        if arrived[i].by_person and arrived[i].channel.settings.manager.escalate
    }
    escalated = await agent_messages.escalate(connection, list(theirs))
    await record(
        connection,
        *(
            Event(
                "message.recorded",
                *_place(written[i]),
                message_id,
                detail={"by": "manager" if arrived[i].by_person else "bot", "type": written[i].message.message_type},
            )
            for i, message_id in kept.items()
        ),
        *(
            Event("conversation.escalated", tenant_id, theirs[tenant_id, conversation_id].channel.id, conversation_id)
            for tenant_id, conversation_id in escalated
        ),
    )
    return await delivery_receipts.apply(
        connection,
        [
            delivery_receipts.Arrived(
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


def _place(written: Written) -> tuple[UUID, UUID, UUID]:
    return written.tenant_id, written.channel_id, written.conversation_id
