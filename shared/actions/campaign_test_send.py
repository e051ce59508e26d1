"""Queues a campaign's message to one contact, who is no recipient by it, so that its author sees what it looks like."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.actions import campaign_forms
from shared.actions.campaign_forms import Said
from shared.actions.messages import NotQueued, wrong_text
from shared.database import Connection
from shared.domain import consents, message_form
from shared.domain.campaigns.settings import stored_settings
from shared.domain.channels import Channel
from shared.domain.model import AddressKind
from shared.queue.jobs import SendRequested
from shared.store import channels, conversations
from shared.store.campaigns import contacts, pages
from shared.store.campaigns.contacts import CampaignContact
from shared.store.campaigns.pages import Talk
from shared.store.campaigns.records import Campaign
from shared.store.conversations import WantedConversation
from shared.store.events import Event, record
from shared.store.messages import outbound, records
from shared.store.messages.outbound import NewMessage
from shared.store.messages.records import MessageRecord


async def send_test(
    connection: Connection, campaign: Campaign, contact_id: UUID, cause: str, handoff: timedelta, *, variant: int = 0
) -> tuple[MessageRecord, SendRequested | None]:
    """Queue what the campaign says to this contact; returns the message, and the job to publish after the commit.

    `cause` names the request, which queues one message to a contact however often it comes: the job is None then.
    `variant` 1 is the other one of two templates. Raises NotQueued, and ValueError where the campaign's settings can't
    be read.
    """
    dedupe_key = f"campaign_test:{campaign.id}:{contact_id}:{cause}"
    before = await records.by_cause(connection, campaign.tenant_id, dedupe_key)
    if before is not None:
        return before, None
    channel = await channels.get(connection, campaign.tenant_id, campaign.values.channel_id)
    if channel is None:
        raise NotQueued("channel", "The campaign's channel is deleted.")
    contact = await contacts.get(connection, campaign.tenant_id, contact_id, _kinds(channel))
    if contact is None or contact.is_deleted:
        raise NotQueued("contact", "There is no such contact.")
    talk = await _talk(connection, channel, contact)
    said = await _said(connection, campaign, channel, contact, talk, variant)
    message = NewMessage(
        tenant_id=campaign.tenant_id,
        conversation_id=talk.id,
        channel_id=channel.id,
        provider=channel.provider,
        dedupe_key=dedupe_key,
        content=said.content,
        message_type=said.message_type,
        media=said.media,
        template=said.template,
        window_policy="fail",
        metadata={**message_form.stored(said.form), "campaign_test": str(campaign.id)},
    )
    added = await outbound.add_and_read(connection, message, handoff)
    if added is None:
        raise NotQueued("cause", "This request is being handled already.")
    queued, job = added
    await record(connection, Event("message.queued", campaign.tenant_id, channel.id, talk.id, queued.id))
    return queued, job


def _kinds(channel: Channel) -> tuple[AddressKind, ...]:
    if channel.provider == "kommo":
        return ("kommo_chat",)
    return ("email",) if channel.kind == "email" else ("phone", "user_id")


async def _talk(connection: Connection, channel: Channel, contact: CampaignContact) -> Talk:
    """The conversation with the contact, locked."""
    if contact.address is None:
        raise NotQueued("contact", "The contact has no address that the campaign's channel reaches.")
    given = contact.given or contact.address
    wanted = WantedConversation(
        tenant_id=channel.tenant_id,
        channel_id=channel.id,
        provider=channel.provider,
        addresses=(contact.address,),
        recipient=given,
        phone=given if contact.kind == "phone" else None,
        contact_id=contact.id,
        contact_name=contact.name,
        kommo_chat_id=contact.address if contact.kind == "kommo_chat" else None,
    )
    (found,) = await conversations.find_or_make(connection, [wanted])
    if not await conversations.lock(connection, {(channel.tenant_id, found.id)}):
        raise NotQueued("conversation", "The conversation was deleted meanwhile.")
    talk = (await pages.talks(connection, channel.tenant_id, [found.id]))[found.id]
    if talk.stopped_by is not None:
        raise NotQueued("opted_out", f"Nothing leaves: {consents.REASONS[talk.stopped_by]}.")
    return talk


async def _said(
    connection: Connection, campaign: Campaign, channel: Channel, contact: CampaignContact, talk: Talk, variant: int
) -> Said:
    settings = stored_settings(campaign.values.settings)
    says = await campaign_forms.of(connection, campaign, channel, settings, None)
    if says is None:
        raise NotQueued("content", "A template of the campaign is deleted.")
    try:
        said = says.said(variant, contact.values(_facts(campaign, contact.id)), talk)
    except KeyError as error:
        raise NotQueued("content", f"Nothing is known for the placeholder {error.args[0]}.") from None
    except ValueError as error:
        raise NotQueued("content", f"{error}") from None
    if said.template is None and (said.content or not said.media):
        wrong = wrong_text(channel.provider, channel.kind, said.content)
        if wrong is not None:
            raise NotQueued("content", wrong)
    return said


def _facts(campaign: Campaign, contact_id: UUID) -> Mapping[str, Any]:
    """What the campaign says of this contact alone. SQL may have written another form of the id, or anything."""
    found = {key.lower(): value for key, value in campaign.values.message_data.items()}.get(str(contact_id))
    return found if isinstance(found, Mapping) else {}
