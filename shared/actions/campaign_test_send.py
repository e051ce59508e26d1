"""Sends a campaign's message to one address, for its author to look at: outside the campaign, as any other message."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.actions import campaign_audience, campaign_forms
from shared.actions.campaign_forms import Said
from shared.actions.campaign_start import NotReady
from shared.database import Connection
from shared.domain import addresses, message_form
from shared.domain.campaigns import placeholders
from shared.domain.campaigns.settings import stored_settings
from shared.domain.channels import Channel
from shared.domain.model import Address
from shared.providers import provider
from shared.queue.jobs import SendRequested
from shared.store import channels, contacts, conversations
from shared.store.campaigns import pages
from shared.store.campaigns.records import Campaign
from shared.store.contacts import Person, SplitError
from shared.store.conversations import WantedConversation
from shared.store.events import Event, record
from shared.store.messages import outbound
from shared.store.messages.outbound import NewMessage
from shared.store.messages.records import MessageRecord

FOR_THE_UNKNOWN: Final = "[{}]"  # what a placeholder reads that nothing is known for: a test is for looking at it


@dataclass(frozen=True, slots=True)
class TestSend:
    """A test: to which address, with which of two templates. `cause` names the request: it has one message."""

    __test__ = False  # not one of pytest's

    address: str
    variant: int
    cause: str


async def send(
    connection: Connection, campaign: Campaign, test: TestSend, handoff: timedelta
) -> tuple[MessageRecord, SendRequested]:
    """Queue a test; returns its message, and the job to publish after the commit. Raises NotReady.

    The address becomes a contact, as whoever writes does. The window, the channel's rate and the contact's opt-outs
    hold for it too; quiet hours, waves and brakes don't, and the campaign does not count it.
    """
    channel = await channels.get(connection, campaign.tenant_id, campaign.values.channel_id)
    if channel is None:
        raise NotReady("id", "The campaign's channel was deleted.", "Name another with campaigns.update.")
    address = _address(channel, test.address)
    contact_id = await _contact(connection, channel, address)
    conversation_id = await _conversation(connection, channel, address, contact_id)
    said = await _said(connection, campaign, channel, contact_id, conversation_id, test.variant)
    message = NewMessage(
        tenant_id=campaign.tenant_id,
        conversation_id=conversation_id,
        channel_id=channel.id,
        provider=channel.provider,
        dedupe_key=f"campaign-test:{test.cause}",
        content=said.content,
        message_type=said.message_type,
        media=said.media,
        template=said.template,
        window_policy="fail",
        metadata={**message_form.stored(said.form), "campaign_test": str(campaign.id)},
    )
    added = await outbound.add_and_read(connection, message, handoff)
    if added is None:
        raise NotReady("id", "This request has sent a test before.", "Send the next one with another Idempotency-Key.")
    queued, job = added
    await record(connection, Event("message.queued", campaign.tenant_id, channel.id, conversation_id, queued.id))
    return queued, job


def _address(channel: Channel, given: str) -> Address:
    found = addresses.person(given)
    kinds = provider(channel.provider).address_kinds
    if found is None or found.kind not in kinds or (found.kind == "phone" and not found.given.startswith("+")):
        remedy = "Give a phone number in international form, or for e-mail an address."
        if "phone" not in kinds and "email" not in kinds:
            remedy = "This channel writes to those alone who have written first: make a campaign for your own contact."
        raise NotReady("to", "This campaign's channel can't write to this address.", remedy)
    return found


async def _contact(connection: Connection, channel: Channel, address: Address) -> UUID:
    try:
        (contact_id,), made = await contacts.find_or_make(connection, [Person(channel.tenant_id, (address,), None)])
    except SplitError:  # two of its written forms are of two contacts
        raise NotReady("to", "Several contacts have this address.", "Give another one.") from None
    if made:
        await record(connection, Event("contact.created", channel.tenant_id, contact_id=contact_id))
    return contact_id


async def _conversation(connection: Connection, channel: Channel, address: Address, contact_id: UUID) -> UUID:
    wanted = WantedConversation(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        provider=channel.provider,
        addresses=(address.canonical,),
        recipient=address.given,
        phone=address.given if address.kind == "phone" else None,
        contact_id=contact_id,
        contact_name=None,
    )
    (found,) = await conversations.find_or_make(connection, [wanted])
    await conversations.lock(connection, {(channel.tenant_id, found.id)})
    return found.id


async def _said(
    connection: Connection, campaign: Campaign, channel: Channel, contact_id: UUID, conversation_id: UUID, variant: int
) -> Said:
    """What the campaign says to this contact. A placeholder that nothing is known for shows its name."""
    talk = (await pages.talks(connection, campaign.tenant_id, [conversation_id]))[conversation_id]
    try:
        settings = stored_settings(campaign.values.settings)
        says = await campaign_forms.of(connection, campaign, channel, settings)
        known = await campaign_audience.values_of(connection, campaign, channel, contact_id)
        used = placeholders.used(campaign_audience.texts(campaign.values, settings))
    except ValueError as error:
        raise NotReady("id", f"The campaign can't be read: {str(error)[:200]}", "Write it anew.") from None
    if says is None:
        raise NotReady("id", "The campaign's template is gone.", "Name another with campaigns.update.")
    unknown = {one.field.name: FOR_THE_UNKNOWN.format(one.field.name) for one in used if one.needed}
    return says.said(variant, unknown | known, talk)
