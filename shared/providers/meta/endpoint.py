"""Meta's webhook URL, `/webhooks/meta/ENDPOINT`: one for all numbers of an app; and the address of Meta's API."""

import re
from typing import ClassVar, Final

from pydantic import Field

from shared.providers.meta.signature import challenge, verify
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec, is_json
from shared.settings import Settings

# A quote within a text is escaped, so a customer can't write either of the two keys.
_MESSAGES_KEY = re.compile(rb'"messages"\s*:')


class MetaSecrets(EndpointSecrets):
    EXAMPLE: ClassVar[str] = '{"app_secrets": ["…"], "verify_token": "…"}'

    app_secrets: tuple[str, ...] = Field(min_length=1)
    verify_token: str = Field(min_length=1)

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        return self.app_secrets


def _only_statuses(body: bytes) -> bool:
    return b'"statuses"' in body and _MESSAGES_KEY.search(body) is None


WEBHOOKS: Final = WebhookSpec(
    verify=verify,
    signature_hint="X-Hub-Signature-256 must be made with the app secret of the endpoint's app, over the body as it is",
    accepts=is_json,
    accepted_types="application/json",
    only_receipts=_only_statuses,
    challenge=challenge,
    body_limit=3 * 1024 * 1024,
)


def api_url(settings: Settings) -> str:
    """The Graph API's address, with its version."""
    return f"{settings.meta_api_url.rstrip('/')}/{settings.meta_api_version}"
