"""Twilio: WhatsApp and SMS."""

from typing import Final

from shared.domain.model import ChannelKind, Media
from shared.providers.base import Sender
from shared.providers.declaration import Provider
from shared.providers.media_source import Source
from shared.providers.templates import ListedTemplate
from shared.providers.twilio.contents import content_problem
from shared.providers.twilio.endpoint import LONGEST_BODY, WEBHOOKS, TwilioSecrets
from shared.providers.twilio.errors import error_class, refusal_by_receipt, retryable
from shared.providers.twilio.onboarding import ONBOARDING
from shared.providers.twilio.webhooks import parse
from shared.settings import Settings


def _make_sender(credentials: str, settings: Settings) -> Sender:
    from shared.providers.twilio import send  # the vendor's SDK takes 11 MB, which only a process that sends needs

    url = settings.twilio_api_url
    return send.make_sender(credentials, api_url=url, timeout=settings.send_timeout, proxy=settings.proxy_for(url))


async def _list_templates(
    credentials: str, *, kind: ChannelKind, business_id: str | None, settings: Settings
) -> list[ListedTemplate]:
    from shared.providers.twilio import templates  # imports the SDK too

    return await templates.list_templates(credentials, kind=kind, business_id=business_id, settings=settings)


def _media_source(media: Media, credentials: str, settings: Settings) -> Source:
    from shared.providers.twilio import media as files  # imports the SDK too

    return files.media_source(media, credentials, api_url=settings.twilio_api_url)


PROVIDER: Final = Provider(
    webhooks=WEBHOOKS,
    endpoint_secrets=TwilioSecrets,
    parse=parse,
    onboarding=ONBOARDING,
    make_sender=_make_sender,
    error_class=error_class,
    retryable=retryable,
    refusal_by_receipt=refusal_by_receipt,
    content_problem=content_problem,
    longest_text=LONGEST_BODY,
    unknown="resend_if_absent",  # its list of sent messages is complete
    list_templates=_list_templates,
    media_source=_media_source,
)
