"""What managers wrote in a provider's own interface: kept in the conversation, which is theirs from then on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared import receiving
from shared.channels import Channel
from shared.db import Connection
from shared.messages import SendRequested
from shared.outcomes import Retry
from shared.providers.base import ManagerMessage, Receipt
from shared.store import contacts, conversations, managers, reports
from shared.store.events import Event, record
from shared.store.managers import Written


@dataclass(frozen=True, slots=True)
class Arrived:
    """A manager's message with where it came in."""

    channel: Channel
    message: ManagerMessage
    received_at: datetime

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


async def apply(connection: Connection, arrived: Sequence[Arrived], handoff: timedelta) -> list[SendRequested]:
    """Keep managers' messages, and hand their conversations over to them; returns what is to be handed on.

    An echo of a message of ours is no manager's. It has the id that we know, or else comes before our own call has
    ended: then it is a receipt for the one message that it can be. Raises Retry where a conversation is gone meanwhile.
    """
    if not arrived:
        return []
    found, made = await _conversations(connection, arrived)
    if not await conversations.lock(connection, {(one.tenant_id, one.id) for one in found}):
        raise Retry("a conversation was deleted while a manager's message came for it")
    written = [
        Written(
            tenant_id=one.channel.tenant_id,
            conversation_id=conversation.id,
            channel_id=one.channel.id,
            provider=one.channel.provider,
            message=one.message,
            received_at=one.received_at,
        )
        for one, conversation in zip(arrived, found, strict=True)
    ]
    suspects = [index for index, one in enumerate(arrived) if one.may_be_ours]
    echoes = await managers.echoes(connection, {index: written[index] for index in suspects})
    ours = {index for index, ids in echoes.items() if ids or arrived[index].is_ours}
    kept = await managers.insert(connection, {i: one for i, one in enumerate(written) if i not in ours})
    await reports.owe(connection, [one for i, one in enumerate(written) if i not in ours and arrived[i].to_be_reported])
    theirs = {
        (written[i].tenant_id, written[i].conversation_id): arrived[i]
        for i in kept
        if arrived[i].by_person and arrived[i].channel.settings.manager.escalate
    }
    escalated = await managers.escalate(connection, list(theirs))
    await record(
        connection,
        *(Event("conversation.opened", *_place(written[i]), None, contact_id) for i, contact_id in made.items()),
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
    return await receiving.apply(
        connection,
        [
            receiving.Arrived(
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


async def _conversations(
    connection: Connection, arrived: Sequence[Arrived]
) -> tuple[list[conversations.Found], dict[int, UUID]]:
    """The conversation of each; and for those that are new, by the first message in them, its contact."""
    contact_ids, _ = await contacts.find_or_make(
        connection,
        [contacts.Person(one.channel.tenant_id, one.message.customer, one.message.contact_name) for one in arrived],
    )
    found = await conversations.find_or_make(
        connection,
        [
            conversations.Wanted(
                tenant_id=one.channel.tenant_id,
                channel_id=one.channel.id,
                provider=one.channel.provider,
                addresses=tuple(address.canonical for address in one.message.customer),
                recipient=one.message.customer[0].given,
                phone=next((a.given for a in one.message.customer if a.kind == "phone"), None),
                contact_id=contact_id,
                contact_name=one.message.contact_name,
                kommo_chat_id=next((a.canonical for a in one.message.customer if a.kind == "kommo_chat"), None),
            )
            for one, contact_id in zip(arrived, contact_ids, strict=True)
        ],
    )
    first: dict[UUID, int] = {}
    for index, conversation in enumerate(found):
        if conversation.made:
            first.setdefault(conversation.id, index)
    return found, {index: contact_ids[index] for index in first.values()}
