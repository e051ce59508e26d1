"""The contact to whom a campaign's test is sent, by an address that its author types; a new one becomes a contact."""

from uuid import UUID

from shared.actions.campaign_checks import Wrong
from shared.actions.campaign_start import NotReady
from shared.database import Connection
from shared.domain import addresses
from shared.providers import provider
from shared.store import channels, contacts
from shared.store.campaigns.records import Campaign
from shared.store.contacts import Person, SplitError
from shared.store.events import Event, record


async def contact_of(connection: Connection, campaign: Campaign, given: str) -> UUID:
    """The id of the contact with this address; a new contact, as whoever writes is one, where there is none.

    Raises NotReady of the field `to` where the campaign's channel can't write to it.
    """
    channel = await channels.get(connection, campaign.tenant_id, campaign.values.channel_id)
    if channel is None:
        raise NotReady(Wrong(("whatsapp_instance_id",), "The channel is deleted.", "Name another channel."))
    kinds = provider(channel.provider).address_kinds
    found = addresses.person(given)
    if found is None or found.kind not in kinds or (found.kind == "phone" and not found.given.startswith("+")):
        remedy = "Give a phone number in international form, or for e-mail an address."
        if "phone" not in kinds and "email" not in kinds:
            remedy = "Its channel writes to those alone who have written first: name your own contact by contactId."
        raise NotReady(Wrong(("to",), "The campaign's channel can't write to this address.", remedy))
    try:
        (contact_id,), made = await contacts.find_or_make(connection, [Person(campaign.tenant_id, (found,), None)])
    except SplitError:
        raise NotReady(Wrong(("to",), "Several contacts have this address.", "Name one by contactId.")) from None
    if made:
        await record(connection, Event("contact.created", campaign.tenant_id, contact_id=contact_id))
    return contact_id
