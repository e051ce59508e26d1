"""Meta: WhatsApp through the Cloud API."""

from typing import Final

from shared.domain.model import ChannelKind, Media
from shared.providers.base import Sender
from shared.providers.declaration import Provider
from shared.providers.media_source import Source
from shared.providers.meta.endpoint import WEBHOOKS, MetaSecrets, api_url
from shared.providers.meta.errors import PAIR_WAIT, error_class, refusal_by_receipt, retryable
from shared.providers.meta.onboarding import ONBOARDING
from shared.providers.meta.own_endpoint import own_endpoint
from shared.providers.meta.requests import LONGEST_TEXT, content_problem
from shared.providers.meta.webhooks import parse
from shared.providers.templates import ListedTemplate
from shared.settings import Settings


def _make_sender(credentials: str, settings: Settings) -> Sender:
    from shared.providers.meta import send  # a process that reads webhooks alone needs no HTTP client

    url = api_url(settings)
    return send.make_sender(credentials, api_url=url, timeout=settings.send_timeout, proxy=settings.proxy_for(url))


async def _list_templates(
    credentials: str, *, kind: ChannelKind, business_id: str | None, settings: Settings
) -> list[ListedTemplate]:
    from shared.providers.meta import templates  # imports the HTTP client too

    return await templates.list_templates(credentials, kind=kind, business_id=business_id, settings=settings)


def _media_source(media: Media, credentials: str, settings: Settings) -> Source:
    from shared.providers.meta import media as files  # imports the HTTP client too

    return files.media_source(media, credentials, api_url=api_url(settings))


PROVIDER: Final = Provider(
    webhooks=WEBHOOKS,
    endpoint_secrets=MetaSecrets,
    own_endpoint=own_endpoint,
    parse=parse,
    onboarding=ONBOARDING,
    make_sender=_make_sender,
    error_class=error_class,
    retryable=retryable,
    content_problem=content_problem,
    address_kinds=("phone", "user_id"),
    longest_text=LONGEST_TEXT,
    refusal_by_receipt=refusal_by_receipt,
    counts_inbound=True,  # Meta's documentation, "Throughput" (21 May 2026): the limit is for both directions together
    pair_interval=PAIR_WAIT,
    states_pricing=True,
    read_receipts=True,
    list_templates=_list_templates,
    media_source=_media_source,
)
