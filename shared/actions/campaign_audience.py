"""Prepares whom a campaign is for: its settings, its template and its channel become the rules that SQL goes by."""

from dataclasses import replace
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain import addresses
from shared.domain.campaigns import placeholders
from shared.domain.campaigns.settings import CampaignSettings, stored_filter, stored_settings
from shared.domain.channels import Channel
from shared.providers import provider
from shared.providers.base import OptedOut, RecipientInvalid
from shared.store import message_templates
from shared.store.campaigns import audience as store
from shared.store.campaigns import freezing
from shared.store.campaigns import preview as previews
from shared.store.campaigns.audience import LIMIT, Audience, Place, Rules
from shared.store.campaigns.preview import Preview
from shared.store.campaigns.records import Campaign, CampaignValues

# Of another campaign's recipients: the reasons of those whose message never left, and might now.
SKIPPED_AGAIN: Final = ("expired", "window_closed")
# What the provider says of the person, whatever the message: another try would end as the first did.
_FINAL: Final = (OptedOut, RecipientInvalid)


def texts(values: CampaignValues, settings: CampaignSettings) -> list[str]:
    """The texts with placeholders that the campaign may send."""
    sent = [text for text in values.variables.values() if isinstance(text, str)]
    if values.message_template_id is None:
        sent = []
    if values.message is not None and (values.message_template_id is None or settings.free_form):
        sent.append(values.message)
    return sent


async def audience_of(connection: Connection, campaign: Campaign, channel: Channel) -> Audience:
    """The contacts that the campaign chooses from, and its rules. Raises ValueError where its settings, its filter or
    its placeholders can't be read: see campaign_checks."""
    values, settings = campaign.values, stored_settings(campaign.values.settings)
    chosen = stored_filter(values.recipient_filter)
    rules = Rules(
        campaign_id=campaign.id,
        channel_id=channel.id,
        channel_kind=channel.kind,
        address_kinds=provider(channel.provider).address_kinds,
        used=placeholders.used(texts(values, settings)),
        us_marketing=channel.kind == "whatsapp" and await _is_marketing(connection, campaign, settings),
        outside_us=addresses.american_areas_outside_the_us(),
        free_form=settings.free_form,
        tags=chosen.tags or None,
        opted_in=chosen.consent == "opted_in",
        seen_after=chosen.last_seen_after,
        seen_before=chosen.last_seen_before,
        statuses=chosen.statuses,
        skipped_for=SKIPPED_AGAIN,
    )
    # Without a choice it is for no contact.
    return Audience(campaign.tenant_id, values.recipient_type or "contacts", values.recipient_ids, rules)


async def _is_marketing(connection: Connection, campaign: Campaign, settings: CampaignSettings) -> bool:
    """Whether one of its templates is of the category marketing."""
    named = campaign.values.message_template_id
    other = None if settings.comparison is None else UUID(settings.comparison.template_id)
    for template_id in (named, other):
        if template_id is not None:
            found = await message_templates.get(connection, campaign.tenant_id, template_id)
            if found is not None and (found.values.category or "").lower() == "marketing":
                return True
    return False


async def freeze_page(connection: Connection, campaign: Campaign, channel: Channel, limit: int = LIMIT) -> bool:
    """Freeze the next page of the campaign's recipients; returns whether all are frozen.

    In a transaction that has locked the campaign's row. Raises as `audience_of`.
    """
    place = await freezing.place(connection, campaign.tenant_id, campaign.id)
    if place is None:
        return True
    audience = await _without_final(connection, await audience_of(connection, campaign, channel), place, limit)
    return await freezing.freeze(connection, audience, place, limit)


async def preview_page(
    connection: Connection, campaign: Campaign, channel: Channel, place: Place, limit: int = LIMIT
) -> Preview:
    """What would become of the page of contacts that begins at `place`; the first one is at Place(). Raises as
    `audience_of`."""
    audience = await _without_final(connection, await audience_of(connection, campaign, channel), place, limit)
    return await previews.preview(connection, audience, place, limit)


async def _without_final(connection: Connection, audience: Audience, place: Place, limit: int) -> Audience:
    """The audience without those of another campaign whom another try would not reach either."""
    if audience.source != "campaign" or not audience.ids:
        return audience
    failed = await store.failures(connection, audience, place, limit)
    final = sorted({reason for name, reason in failed if provider(name).error_class(reason) in _FINAL})
    return replace(audience, rules=replace(audience.rules, final=final))
