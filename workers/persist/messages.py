"""Stores a batch's messages with their contacts and conversations; returns the jobs that follow."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents
from shared.domain.channels import Channel
from shared.domain.consents import Change
from shared.domain.model import InboundMessage
from shared.queue.jobs import Job
from shared.queue.outcomes import Retry
from shared.store import contacts, conversations, media
from shared.store.consents import Entry
from shared.store.events import Event, record
from shared.store.messages import inbound, outbound
from workers.persist import agent_messages
from workers.persist.conversation_updates import ConversationUpdates, IncomingMessage, provider_time
from workers.persist.parsing import Incoming


async def persist(tx: database.Connection, received: Sequence[Incoming], handoff: timedelta) -> list[Job]:
    """Store contacts, conversations and messages, in this order; returns the jobs that follow.

    Other transactions that need one of these conversations wait from its lock to our commit, so all work that needs no
    lock comes first. All conversations are locked by one statement: two batches that locked them one by one would wait
    for each other.
    """
    incoming: list[IncomingMessage] = []
    places: list[int] = []  # of each of `incoming` among all messages of the batch
    from_agents: list[agent_messages.IncomingAgentMessage] = []
    for place, one in enumerate(received):
        if isinstance(one.message, InboundMessage):
            incoming.append((one.webhook, one.channel, one.message))
            places.append(place)
        else:
            from_agents.append(
                agent_messages.IncomingAgentMessage(one.channel, one.message, one.webhook.received_at, place)
            )
    if not incoming and not from_agents:
        return []
    contact_ids, new_contacts = await contacts.find_or_make(
        tx,
        [
            *(contacts.Person(channel.tenant_id, m.sender, m.contact_name) for _, channel, m in incoming),
            *(agent_messages.person(one) for one in from_agents),
        ],
    )
    found = await conversations.find_or_make(
        tx,
        [
            *(_conversation(channel, m, of) for (_, channel, m), of in zip(incoming, contact_ids, strict=False)),
            *(
                agent_messages.conversation(one, of)
                for one, of in zip(from_agents, contact_ids[len(incoming) :], strict=True)
            ),
        ],
    )
    served = [*(channel for _, channel, _ in incoming), *(one.channel for one in from_agents)]
    await record(tx, *_first_contacts(served, contact_ids, new_contacts, found))
    rows = inbound.inbound_rows(
        [
            _inbound(one, of, contact_id, place)
            for one, of, contact_id, place in zip(incoming, found, contact_ids, places, strict=False)
        ]
    )
    consent_changes = consents.consent_changes([(channel, m) for _, channel, m in incoming])
    updates = ConversationUpdates.of(incoming, found, contact_ids, rows.ids, consent_changes)

    if not await conversations.lock(tx, {(one.tenant_id, one.id) for one in found}):
        raise Retry("a conversation was deleted while a message came for it")
    jobs: list[Job] = []
    began = None
    inserted: Mapping[int, UUID] = {}
    if incoming:
        new = await inbound.insert_inbound(tx, rows)
        inserted, began = new.ids, new.began
        if len(inserted) < len(rows.ids):  # some were stored before: they change nothing
            updates = ConversationUpdates.of(incoming, found, contact_ids, inserted, consent_changes)
        await consents.write(tx, _message_consents(incoming, contact_ids, consent_changes, inserted))
        jobs += await media.want(tx, _files(incoming, inserted), handoff)
    if updates.by_conversation:
        updated = await conversations.update_from_messages(tx, list(updates.by_conversation.values()), handoff)
        jobs += updates.replies(updated.owed)
        if updated.deleted:
            await contacts.revive(tx, updated.deleted & _returned(incoming, contact_ids, new_contacts, inserted))
        if updated.held:
            jobs += await outbound.release_held(tx, list(updated.held), handoff)
    return [*jobs, *await agent_messages.apply(tx, from_agents, found[len(incoming) :], began, handoff)]


def _conversation(channel: Channel, m: InboundMessage, contact_id: UUID) -> conversations.WantedConversation:
    return conversations.WantedConversation(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        provider=channel.provider,
        addresses=tuple(address.canonical for address in m.sender),
        recipient=m.sender[0].given,
        phone=next((address.given for address in m.sender if address.kind == "phone"), None),
        contact_id=contact_id,
        contact_name=m.contact_name,
        kommo_chat_id=next((address.canonical for address in m.sender if address.kind == "kommo_chat"), None),
    )


def _inbound(
    incoming: IncomingMessage, conversation: conversations.FoundConversation, contact_id: UUID, place: int
) -> inbound.Inbound:
    webhook, channel, m = incoming
    return inbound.Inbound(
        tenant_id=channel.tenant_id,
        conversation_id=conversation.id,
        channel_id=channel.id,
        provider=channel.provider,
        external_id=m.external_id,
        message_type=m.message_type,
        content=m.text,
        received_at=webhook.received_at,
        provider_timestamp=provider_time(m, webhook.received_at),
        media=m.media,
        metadata=m.extra,
        reply_to=m.reply_to,
        contact_name=m.contact_name,
        contact_id=contact_id,
        place=place,
    )


def _first_contacts(
    served: Sequence[Channel],
    contact_ids: Sequence[UUID],
    new: set[UUID],
    found: Sequence[conversations.FoundConversation],
) -> list[Event]:
    """Events of contacts and conversations that are new; `served` are the messages' channels."""
    events = {
        contact_id: Event("contact.created", channel.tenant_id, channel.id, contact_id=contact_id)
        for contact_id, channel in zip(contact_ids, served, strict=True)
        if contact_id in new
    }
    opened = {
        conversation.id: Event(
            "conversation.opened", channel.tenant_id, channel.id, conversation.id, contact_id=contact_id
        )
        for conversation, contact_id, channel in zip(found, contact_ids, served, strict=True)
        if conversation.made
    }
    return [*events.values(), *opened.values()]


def _files(incoming: Sequence[IncomingMessage], inserted: Mapping[int, UUID]) -> list[media.SentFile]:
    """The files of the messages that are new."""
    return [
        media.SentFile(
            channel.tenant_id, channel.id, inserted[place], position, part, webhook.inbound_id, webhook.trace
        )
        for place, (webhook, channel, m) in enumerate(incoming)
        if m.media and place in inserted
        for position, part in enumerate(m.media)
    ]


def _returned(
    incoming: Sequence[IncomingMessage], contact_ids: Sequence[UUID], new: set[UUID], inserted: Mapping[int, UUID]
) -> set[tuple[UUID, UUID]]:
    """(tenant, contact) of customers who were known before and certainly wrote themselves.

    A forged mail, or one that asks for the answer to go to a deleted contact, does not bring that contact back.
    """
    return {
        (channel.tenant_id, contact_ids[place])
        for place, (_, channel, m) in enumerate(incoming)
        if place in inserted and contact_ids[place] not in new
        and m.message_type != "system" and m.authorship == "proven" and m.author is None
    }  # fmt: skip


def _message_consents(
    incoming: Sequence[IncomingMessage],
    contact_ids: Sequence[UUID],
    consent_changes: Mapping[int, Change],
    inserted: Mapping[int, UUID],
) -> list[Entry]:
    """Consents by the words of new messages. `provider_events.provider_consents` has those of mails whose author is
    not the conversation's customer."""
    return [
        consents.message_consent(
            channel, m, consent_changes[place], contact_ids[place], inserted[place], webhook.received_at
        )
        for place, (webhook, channel, m) in ((place, incoming[place]) for place in consent_changes)
        if place in inserted and consent_changes[place].proven and m.author is None
    ]
