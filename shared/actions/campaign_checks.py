"""Checks whether a campaign may start: everything that would fail for all of its recipients is found before the first.

What concerns single recipients is found by the preview, and when they are frozen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from shared.actions.campaign_audience import texts
from shared.actions.messages import wrong_text
from shared.database import Connection
from shared.domain.campaigns import placeholders
from shared.domain.campaigns.life import OVER
from shared.domain.campaigns.placeholders import WrongPlaceholder
from shared.domain.campaigns.settings import CampaignSettings, stored_filter, stored_settings
from shared.domain.channels import Channel
from shared.domain.field_errors import field_errors
from shared.domain.model import Interactive, Media, Outgoing
from shared.domain.template_text import LONGEST_VALUE
from shared.providers import provider
from shared.store import contact_records, groups, message_templates
from shared.store.campaigns import records
from shared.store.campaigns.records import Campaign, CampaignValues
from shared.store.message_templates import MessageTemplate

_MEDIA: Final = TypeAdapter(tuple[Media, ...])
_INTERACTIVE: Final = TypeAdapter(Interactive | None)
_TEMPLATE: Final = ("message_template_id",)
_NO_ID: Final = UUID(int=0)  # a message that is only checked has none yet, and no content depends on it
_OTHER: Final = ("settings", "comparison", "template_id")


@dataclass(frozen=True, slots=True)
class Wrong:
    """What keeps a campaign from starting: the path to a field, as the row names it, why, and what to do."""

    field: tuple[str, ...]
    reason: str
    remedy: str


async def wrongs(connection: Connection, campaign: Campaign, channel: Channel | None, now: datetime) -> list[Wrong]:
    """Everything that keeps the campaign from starting; nothing where it may. `channel` None: it has been deleted."""
    values = campaign.values
    found = [*await _of_recipients(connection, campaign), *_of_filter(values)]
    try:
        settings = stored_settings(values.settings)
    except ValidationError as error:
        return [*found, Wrong(("settings",), f"They can't be read: {field_errors(error)}.", "Write them anew.")]
    if settings.ends_at is not None and settings.ends_at <= now.astimezone(UTC):
        found.append(Wrong(("settings", "ends_at"), "It has passed.", "Name a later time, or remove it."))
    found += _of_texts(values, settings)
    if channel is None:
        return [*found, Wrong(("whatsapp_instance_id",), "The channel is deleted.", "Name another channel.")]
    if channel.status != "active":
        found.append(Wrong(("whatsapp_instance_id",), "The channel is stopped.", "Resume it first."))
    if values.message_template_id is None:
        return [*found, *_of_message_alone(values, settings, channel)]
    if settings.free_form:
        found += _of_message(values, channel)
    return [*found, *await _of_templates(connection, campaign, settings, channel)]


# -- recipients --------------------------------------------------------------------------------------------------------


async def _of_recipients(connection: Connection, campaign: Campaign) -> list[Wrong]:
    """Of groups and contacts that are named, some may have been deleted since: they are left out."""
    at, ids, tenant_id = ("recipient_ids",), campaign.values.recipient_ids, campaign.tenant_id
    match campaign.values.recipient_type:
        case None:
            reason = "No recipients are chosen."
            return [Wrong(("recipient_type",), reason, "Name groups, contacts, another campaign, or all contacts.")]
        case "all":
            return [Wrong(at, "All contacts are chosen, and some by name.", "Leave the list empty.")] if ids else []
        case "groups":
            live = bool(await groups.known(connection, tenant_id, ids))
            return [] if live else [Wrong(at, "It names no group that is there.", "Name at least one group.")]
        case "contacts":
            live = any((await contact_records.known(connection, tenant_id, ids)).values())
            return [] if live else [Wrong(at, "It names no contact that is there.", "Name at least one contact.")]
        case "campaign":
            return await _of_origin(connection, campaign)


async def _of_origin(connection: Connection, campaign: Campaign) -> list[Wrong]:
    """Of the campaign whose recipients are written to again."""
    at, ids = ("recipient_ids",), campaign.values.recipient_ids
    origin = await records.get(connection, campaign.tenant_id, ids[0]) if len(ids) == 1 else None
    if origin is None or origin.id == campaign.id:
        return [Wrong(at, "It does not name one other campaign.", "Name the one whose recipients it takes over.")]
    if origin.status not in OVER:
        reason = f"That campaign is {origin.status}: what becomes of its recipients is not known yet."
        return [Wrong(at, reason, "Wait until it has ended, or cancel it.")]
    return []


def _of_filter(values: CampaignValues) -> list[Wrong]:
    try:
        stored_filter(values.recipient_filter)
    except ValidationError as error:
        reason = f"It can't be read: {field_errors(error)}."
        return [Wrong(("recipient_filter",), reason, "Write it anew, or remove it.")]
    return []


# -- texts -------------------------------------------------------------------------------------------------------------


def _of_texts(values: CampaignValues, settings: CampaignSettings) -> list[Wrong]:
    """Of the placeholders, and of the texts' forms."""
    if values.message is None and values.message_template_id is None:
        return [Wrong(("message",), "The campaign has neither a text nor a template.", "Give one of them.")]
    found = []
    named: dict[tuple[str, ...], object] = {("variables", name): text for name, text in values.variables.items()}
    if values.message is not None:
        named[("message",)] = values.message
    for at, text in named.items():
        if not isinstance(text, str) or (at != ("message",) and len(text) > LONGEST_VALUE):
            found.append(Wrong(at, f"It is no text of at most {LONGEST_VALUE} characters.", "Write another one."))
            continue
        try:
            placeholders.parse(text)
        except WrongPlaceholder as wrong:
            found.append(Wrong(at, wrong.reason, wrong.remedy))
    if not found:
        try:
            placeholders.used(texts(values, settings))
        except WrongPlaceholder as wrong:
            found.append(Wrong(("message",), wrong.reason, wrong.remedy))
    return found


def _of_message(values: CampaignValues, channel: Channel) -> list[Wrong]:
    """Of a text that is sent itself: whether the channel's provider takes it, with its files and buttons."""
    if values.message is None:
        return [Wrong(("message",), "There is no text that could be sent.", "Give one, or take `free_form` back.")]
    # Its placeholders count as they are written: how long a name is can't be known here.
    wrong = wrong_text(channel.provider, channel.kind, values.message)
    if wrong is not None:
        return [Wrong(("message",), wrong, "Write another one.")]
    try:
        media = _MEDIA.validate_python(tuple(values.media))
    except ValidationError as error:
        return [Wrong(("media",), f"It can't be read: {field_errors(error)}.", "Write it anew.")]
    try:
        interactive = _INTERACTIVE.validate_python(values.interactive)
    except ValidationError as error:
        return [Wrong(("interactive",), f"It can't be read: {field_errors(error)}.", "Write it anew.")]
    message = Outgoing(_NO_ID, channel.kind, "", "", text=values.message, media=media, interactive=interactive)
    problem = provider(channel.provider).content_problem(message)
    if problem is None:
        return []
    part = "interactive" if interactive is not None else "media" if media else "message"
    return [Wrong((part,), f"{problem[0].upper()}{problem[1:]}.", "Write it as the provider takes it.")]


def _of_message_alone(values: CampaignValues, settings: CampaignSettings, channel: Channel) -> list[Wrong]:
    """Of a campaign without a template."""
    found = [] if values.message is None else _of_message(values, channel)
    if settings.comparison is not None:
        found.append(Wrong(_TEMPLATE, "There is no template to compare with another.", "Name one."))
    return found


# -- templates ---------------------------------------------------------------------------------------------------------


async def _of_templates(
    connection: Connection, campaign: Campaign, settings: CampaignSettings, channel: Channel
) -> list[Wrong]:
    if provider(channel.provider).list_templates is None:
        reason = f"A channel of {channel.provider} has no templates."
        return [Wrong(_TEMPLATE, reason, "Remove it and give a text, or name a channel of Twilio or Meta.")]
    values, found, both = campaign.values, [], []
    named: list[tuple[tuple[str, ...], UUID | None]] = [(_TEMPLATE, values.message_template_id)]
    if settings.comparison is not None:
        named.append((_OTHER, UUID(settings.comparison.template_id)))
    for at, template_id in named:
        assert template_id is not None, "the caller has seen to the first"
        template = await message_templates.get(connection, campaign.tenant_id, template_id)
        if template is None or template.deleted_at is not None:
            found.append(Wrong(at, "There is no such template.", "Name another one."))
            continue
        found += _of_template(at, template, channel)
        both.append(template)
    for template in both[:1]:
        found += _of_variables(values, template)
    if len(both) == 2 and (both[0].id == both[1].id or set(both[0].values.variables) != set(both[1].values.variables)):
        reason = "It is the same template, or takes other variables."
        found.append(Wrong(_OTHER, reason, "Name another one with the same variables."))
    return found


def _of_template(at: tuple[str, ...], template: MessageTemplate, channel: Channel) -> list[Wrong]:
    """Whether the channel can send it."""
    values = template.values
    if values.channel_id is None and values.external_id is None:
        reason = "It is a text of your own, which no provider has approved."
        return [Wrong(at, reason, "Name an approved template, or set its channel.")]
    if values.channel_id not in (None, channel.id):
        return [Wrong(at, "It is approved for another channel.", "Name one of this campaign's channel.")]
    if values.status != "approved":
        return [Wrong(at, f"It is {values.status}.", "Wait until it is approved, or name another one.")]
    if not values.is_active:
        return [Wrong(at, "It is not active.", "Make it active, or name another one.")]
    if channel.provider == "meta" and values.language is None:
        return [Wrong(at, "It has no language, which Meta needs.", "Set the template's language, such as en_US.")]
    return []


def _of_variables(values: CampaignValues, template: MessageTemplate) -> Iterator[Wrong]:
    for name in template.values.variables:
        if name not in values.variables:
            yield Wrong(("variables", name), "Nothing is said of this variable of the template.", "Give it a text.")
    # Of a template that was written by hand, only what stands in its text is known: not its header, nor its buttons.
    for name in values.variables if template.is_synced else ():
        if name not in template.values.variables:
            yield Wrong(("variables", name), "The template has no such variable.", "Leave it out.")
