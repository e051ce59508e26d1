"""What a campaign says to a recipient: its text inside WhatsApp's window if it wants that, else its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.domain import media, message_form, template_text, window
from shared.domain.campaigns import placeholders
from shared.domain.campaigns.settings import CampaignSettings
from shared.domain.channels import Channel
from shared.domain.message_form import Form
from shared.domain.model import Media, Template
from shared.store import message_templates
from shared.store.campaigns.life import Pause
from shared.store.campaigns.pages import Talk
from shared.store.campaigns.records import Campaign
from shared.store.message_templates import MessageTemplate

GONE: Final = Pause("template_paused", {"status": "gone", "resume": "a person, with campaigns.resume"})


@dataclass(frozen=True, slots=True)
class Said:
    """A message's content."""

    content: str
    message_type: str
    template: Template | None = None
    media: tuple[Media, ...] = ()
    form: Form = message_form.PLAIN


@dataclass(frozen=True, slots=True)
class Forms:
    """The forms that a campaign has: a template for each variant, a text, or both."""

    kind: str  # of the channel
    provider: str
    text: str | None  # None: it has none, or is not to be sent
    media: tuple[Media, ...]
    form: Form
    templates: Mapping[int, MessageTemplate]
    variables: Mapping[str, str]  # of the template: name → text with placeholders
    winner: int | None  # the variant that all get from now on

    def said(self, variant: int, values: Mapping[str, str], talk: Talk) -> Said:
        """What a recipient is sent, whose variant and values these are. Raises ValueError and KeyError where the values
        don't suffice."""
        template = self.templates.get(variant if self.winner is None else self.winner, self.templates.get(0))
        is_free = self.kind != "whatsapp" or window.is_open(talk.last_user_message_at, talk.now)
        if self.text is not None and (is_free or template is None):
            kind = media.message_type(self.media[0]) if self.media else "text"
            return Said(placeholders.render(self.text, values), kind, None, self.media, self.form)
        assert template is not None, "a campaign has a text or a template"
        filled = placeholders.variables(self.variables, values)
        words = template.values
        name = words.external_id if self.provider == "twilio" and words.external_id else words.name
        shown = template_text.fill(words.content, filled).text
        return Said(shown, "template", Template(name, filled, words.language))


async def of(
    tx: Connection, campaign: Campaign, channel: Channel, settings: CampaignSettings, winner: int | None
) -> Forms | None:
    """The campaign's forms; None where a template of it is deleted."""
    given = campaign.values
    wanted = {0: given.message_template_id}
    if settings.comparison is not None:
        wanted[1] = UUID(settings.comparison.template_id)
    templates: dict[int, MessageTemplate] = {}
    for variant, template_id in wanted.items():
        if template_id is None:
            continue
        found = await message_templates.get(tx, campaign.tenant_id, template_id)
        if found is None or found.deleted_at is not None:
            return None
        templates[variant] = found
    return Forms(
        kind=channel.kind,
        provider=channel.provider,
        text=given.message if settings.free_form or not templates else None,
        media=_media(given.media),
        form=message_form.form_of({message_form.FORM: {"interactive": given.interactive}}),
        templates=templates,
        variables={name: str(text) for name, text in given.variables.items()},
        winner=winner,
    )


def _media(given: Sequence[Mapping[str, Any]]) -> tuple[Media, ...]:
    return tuple(Media(one.get("url"), one.get("id"), one.get("mime_type"), one.get("filename")) for one in given)
