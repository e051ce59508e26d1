"""Kommo (formerly amoCRM): the chats of its accounts, through the Chats API and CRM webhooks."""

from typing import Final

from shared.providers.base import Sender
from shared.providers.declaration import Provider
from shared.providers.kommo.endpoint import WEBHOOKS, KommoSecrets
from shared.providers.kommo.errors import error_class
from shared.providers.kommo.onboarding import ONBOARDING
from shared.providers.kommo.requests import LONGEST_TEXT, content_problem
from shared.providers.kommo.webhooks import parse
from shared.settings import Settings


def _make_sender(credentials: str, settings: Settings) -> Sender:
    from shared.providers.kommo import send  # a process that reads webhooks alone needs no HTTP client

    url = settings.kommo_api_url
    return send.make_sender(credentials, api_url=url, timeout=settings.send_timeout, proxy=settings.proxy_for(url))


PROVIDER: Final = Provider(
    webhooks=WEBHOOKS,
    endpoint_secrets=KommoSecrets,
    parse=parse,
    onboarding=ONBOARDING,
    make_sender=_make_sender,
    error_class=error_class,
    content_problem=content_problem,
    address_kinds=("kommo_chat",),
    longest_text=LONGEST_TEXT,
    rate=7.0,  # of an account
    agent_reports=True,
)
