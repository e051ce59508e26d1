"""Kommo's webhook URLs: `/webhooks/kommo/ENDPOINT/SECRET` for CRM webhooks, which nothing signs, and
`/webhooks/kommo/ENDPOINT/chats` for the signed ones of the Chats API."""

import re
from typing import Annotated, ClassVar, Final

from pydantic import Field

from shared.providers.kommo.webhooks import CHATS, holds_secret, verify
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec, is_json

# What customers wrote, in a form that has no `message` around it.
_ADDED_KEY = re.compile(rb"(?:^|&)add(?:\[|%5B)", re.IGNORECASE)


class KommoSecrets(EndpointSecrets):
    EXAMPLE: ClassVar[str] = '{"channel_secrets": ["…"], "url_secrets": ["…"]}'

    channel_secrets: tuple[str, ...] = Field(min_length=1)
    url_secrets: tuple[Annotated[str, Field(min_length=16)], ...] = Field(min_length=1)

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        return self.channel_secrets


def _form_or_json(media_type: str, query: str) -> bool:
    return media_type in ("application/x-www-form-urlencoded", "application/json")


def _without_messages(body: bytes) -> bool:
    return b"message" not in body and _ADDED_KEY.search(body) is None


_CHATS = WebhookSpec(
    verify=verify,
    signature_hint="X-Signature must be made with the channel secret of the endpoint's channel, over the body as it is",
    accepts=is_json,
    accepted_types="application/json",
    only_receipts=_without_messages,
    extra_segments=(0, 1),  # Kommo appends the scope id
)

WEBHOOKS: Final = WebhookSpec(
    verify=holds_secret,
    signature_hint="the URL must end with the secret that `palomar channels list` shows",
    accepts=_form_or_json,
    accepted_types="application/x-www-form-urlencoded, or JSON",
    only_receipts=_without_messages,
    extra_segments=(1,),
    subpaths={CHATS: _CHATS},
    secret_in_url=True,
)
