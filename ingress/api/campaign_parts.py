"""Checks the parts of a campaign: that all it names is there, and that its channel can send what it says."""

from collections.abc import Collection, Set
from typing import Final
from uuid import UUID

from ingress.api.not_queued import refuse
from ingress.api.problems import invalid, not_found
from shared.actions import messages
from shared.actions.messages import NotQueued
from shared.database import Connection
from shared.domain.campaigns import placeholders
from shared.domain.campaigns.placeholders import WrongPlaceholder
from shared.domain.message_form import FORM, form_of
from shared.store import channels, contact_records, groups, message_templates
from shared.store.campaigns import records
from shared.store.campaigns.records import CampaignValues
from shared.store.messages.outbound_rows import media_of

_SAID: Final = frozenset(("whatsapp_instance_id", "message", "media", "interactive"))


async def check(connection: Connection, tenant_id: UUID, values: CampaignValues, named: Set[str]) -> None:
    """Raise the problem of a campaign that says nothing, or names something that is not there.

    `named` are the fields of the request: what stood in the campaign before is not looked up again.
    """
    if values.message is None and values.message_template_id is None:
        raise invalid("message", "The campaign has neither a text nor a template.", "Give one of them.")
    _check_placeholders(values)
    if not _SAID.isdisjoint(named):
        await _check_message(connection, tenant_id, values)
    if "message_template_id" in named and values.message_template_id is not None:
        await _check_template(connection, tenant_id, values.message_template_id, "messageTemplateId")
    if "settings" in named:
        await _check_comparison(connection, tenant_id, values)
    if not {"recipient_type", "recipient_ids"}.isdisjoint(named):
        await _check_recipients(connection, tenant_id, values)


def _check_placeholders(values: CampaignValues) -> None:
    texts: dict[tuple[str, ...], str] = {("variables", name): text for name, text in values.variables.items()}
    if values.message is not None:
        texts |= {("message",): values.message}
    for at, text in texts.items():
        try:
            placeholders.parse(text)
        except WrongPlaceholder as wrong:
            raise invalid(at, wrong.reason, wrong.remedy) from None
    try:
        placeholders.used(texts.values())
    except WrongPlaceholder as wrong:
        raise invalid("message", wrong.reason, wrong.remedy) from None


async def _check_message(connection: Connection, tenant_id: UUID, values: CampaignValues) -> None:
    channel = await channels.get(connection, tenant_id, values.channel_id)
    if channel is None:
        raise not_found("channel", "whatsappInstanceId")
    if values.message is None:
        for name, part in (("media", values.media), ("interactive", values.interactive)):
            if part:
                raise invalid(name, "It goes with a text, and `message` is missing.", "Give one, or leave it out.")
        return
    try:
        messages.check_content(
            channel.provider,
            channel.kind,
            values.message,
            tuple(media_of(one) for one in values.media),
            form_of({FORM: {"interactive": values.interactive}}).interactive,
        )
    except NotQueued as refused:
        if refused.obstacle == "content":
            raise invalid("message", refused.reason, "Shorten it, or divide it.") from None
        refuse(refused)


async def _check_template(connection: Connection, tenant_id: UUID, template_id: UUID, *path: str) -> None:
    template = await message_templates.get(connection, tenant_id, template_id)
    if template is None or template.deleted_at is not None:
        raise not_found("message template", *path)


async def _check_comparison(connection: Connection, tenant_id: UUID, values: CampaignValues) -> None:
    other = (values.settings.get("comparison") or {}).get("template_id")
    if other is None:
        return
    at = ("settings", "comparison", "templateId")
    await _check_template(connection, tenant_id, UUID(other), *at)
    if values.message_template_id in (None, UUID(other)):
        raise invalid(at, "There is no other template to compare it with.", "Give another one as messageTemplateId.")


async def _check_recipients(connection: Connection, tenant_id: UUID, values: CampaignValues) -> None:
    """Raise the problem that names the first recipient that is not there."""
    ids = values.recipient_ids
    known: Collection[UUID]
    match values.recipient_type:
        case None if ids:
            raise invalid("recipientType", "It is missing.", "Say whether `recipientIds` are groups or contacts.")
        case None:
            return
        case "all" if ids:
            raise invalid("recipientIds", "`all` is every contact.", "Leave them out, or name another recipientType.")
        case "campaign" if len(ids) > 1:
            raise invalid("recipientIds", "Recipients come from one campaign.", "Name one campaign.")
        case "groups" | "all":
            known, what = await groups.known(connection, tenant_id, ids), "group"
        case "contacts":
            lives = await contact_records.known(connection, tenant_id, ids)
            known, what = {one for one in lives if lives[one]}, "contact"
        case "campaign":
            found = [await records.get(connection, tenant_id, one) for one in ids]
            known, what = {one.id for one in found if one is not None and one.deleted_at is None}, "campaign"
    for place, one in enumerate(ids):
        if one not in known:
            raise not_found(what, "recipientIds", place)
