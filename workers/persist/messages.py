"""Stores a batch's messages with their contacts and conversations; returns the jobs that follow."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import consents
from shared.database import new_id
from shared.queue.jobs import Job
from shared.queue.outcomes import Retry
from shared.store import contacts, conversations, media
from shared.store.consents import Entry
from shared.store.events import Event
from shared.store.messages import inbound, outbound
from workers.persist import agent_messages
from workers.persist.conversation_updates import ConversationUpdates
from workers.persist.incoming import FromAgent, FromCustomer, Incoming


async def persist(tx: database.Connection, batch: Sequence[Incoming], handoff: timedelta) -> list[Job]:
    """Store contacts, conversations and messages, in this order; returns the jobs that follow.

    Other transactions that need one of these conversations wait from its lock to our commit, so all work that needs no
    lock comes first.
    """
    customers = [one for one in batch if isinstance(one, FromCustomer)]
    agents = [one for one in batch if isinstance(one, FromAgent)]
    everyone = [*customers, *agents]  # customers first: a contact has the name that it gives itself
    if not everyone:
        return []
    await _resolve_contacts(tx, everyone)
    await _resolve_conversations(tx, everyone)
    first = _first_contacts(everyone)
    new = _numbered(customers)
    rows = inbound.inbound_rows([one.row for one in new])
    updates = ConversationUpdates.of(new)

    await _lock_conversations(tx, everyone)
    inserted = await inbound.insert_inbound(tx, rows, first)
    if len(inserted.ids) < len(new):  # some were stored before: they change nothing
        new = [one for one in new if one.message_id in inserted.ids]
        updates = ConversationUpdates.of(new)
    await consents.write(tx, _consents(new))
    jobs: list[Job] = [*await media.want(tx, _files(new), handoff)]
    jobs += await _update_conversations(tx, updates, new, handoff)
    return [*jobs, *await agent_messages.apply(tx, agents, inserted.began, handoff)]


async def _resolve_contacts(tx: database.Connection, everyone: Sequence[Incoming]) -> None:
    contact_ids, made = await contacts.find_or_make(tx, [one.person for one in everyone])
    for one, contact_id in zip(everyone, contact_ids, strict=True):
        one.contact_id, one.is_new_contact = contact_id, contact_id in made


async def _resolve_conversations(tx: database.Connection, everyone: Sequence[Incoming]) -> None:
    found = await conversations.find_or_make(tx, [one.wanted_conversation for one in everyone])
    for one, conversation in zip(everyone, found, strict=True):
        one.conversation = conversation


def _first_contacts(everyone: Sequence[Incoming]) -> list[Event]:
    """Events of contacts and conversations that are new."""
    events = {
        one.contact_id: Event("contact.created", one.channel.tenant_id, one.channel.id, contact_id=one.contact_id)
        for one in everyone
        if one.is_new_contact
    }
    opened = {
        one.conversation.id: Event(
            "conversation.opened", one.channel.tenant_id, one.channel.id, one.conversation.id, contact_id=one.contact_id
        )
        for one in everyone
        if one.conversation.made
    }
    return [*events.values(), *opened.values()]


def _numbered(customers: Sequence[FromCustomer]) -> list[FromCustomer]:
    """Give each message its id. Of those that came twice in the batch, the first."""
    first: dict[tuple[UUID, UUID, str], FromCustomer] = {}
    for one in customers:
        first.setdefault((one.channel.tenant_id, one.channel.id, one.message.external_id), one)
    for one in first.values():
        one.message_id = new_id()
    return list(first.values())


async def _lock_conversations(tx: database.Connection, everyone: Sequence[Incoming]) -> None:
    """Lock all by one statement: two batches that locked them one by one would wait for each other."""
    if not await conversations.lock(tx, {(one.conversation.tenant_id, one.conversation.id) for one in everyone}):
        raise Retry("a conversation was deleted while a message came for it")


async def _update_conversations(
    tx: database.Connection, updates: ConversationUpdates, new: Sequence[FromCustomer], handoff: timedelta
) -> list[Job]:
    if not updates.by_conversation:
        return []
    updated = await conversations.update_from_messages(tx, list(updates.by_conversation.values()), handoff)
    jobs: list[Job] = [*updates.replies(updated.owed)]
    if updated.deleted:
        await contacts.revive(tx, updated.deleted & _returned(new))
    if updated.held:
        jobs += await outbound.release_held(tx, list(updated.held), handoff)
    return jobs


def _files(new: Sequence[FromCustomer]) -> list[media.SentFile]:
    """The files of new messages."""
    return [
        media.SentFile(
            one.channel.tenant_id,
            one.channel.id,
            one.message_id,
            position,
            part,
            one.webhook.inbound_id,
            one.webhook.trace,
        )
        for one in new
        for position, part in enumerate(one.message.media)
    ]


def _returned(new: Sequence[FromCustomer]) -> set[tuple[UUID, UUID]]:
    """(tenant, contact) of customers who were known before and certainly wrote themselves.

    A forged mail, or one that asks for the answer to go to a deleted contact, does not bring that contact back.
    """
    return {
        (one.channel.tenant_id, one.contact_id)
        for one in new
        if not one.is_new_contact
        and one.message.message_type != "system"
        and one.message.authorship == "proven"
        and one.message.author is None
    }


def _consents(new: Sequence[FromCustomer]) -> list[Entry]:
    """Consents by the words of new messages. `provider_events.provider_consents` has those of mails whose author is
    not the conversation's customer."""
    return [
        consents.message_consent(
            one.channel, one.message, one.consent, one.contact_id, one.message_id, one.webhook.received_at
        )
        for one in new
        if one.consent is not None and one.consent.proven and one.message.author is None
    ]
