"""Twilio's webhook URLs: `/webhooks/twilio/ENDPOINT` for messages, the same with `/status` for delivery receipts."""

from dataclasses import replace
from typing import ClassVar, Final

from pydantic import Field

from shared.providers.twilio.signature import verify
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec, always

LONGEST_BODY: Final = 1600  # characters of a message's text; Twilio answers 21617 beyond
STATUS: Final = "status"  # the path segment of delivery receipts
# A URL's fragment by which Twilio tries a webhook five times, on any failure; by default it tries again once, and only
# if it can't connect.
RETRIES: Final = "#rc=5&rp=all"


class TwilioSecrets(EndpointSecrets):
    EXAMPLE: ClassVar[str] = '{"auth_tokens": ["…"]}'

    auth_tokens: tuple[str, ...] = Field(min_length=1)

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        return self.auth_tokens


def _form_or_signed_json(media_type: str, query: str) -> bool:
    # A JSON body is signed by its hash in the query; without it nothing ties the body to the signature.
    return media_type == "application/x-www-form-urlencoded" or (
        (media_type == "application/json" or media_type.endswith("+json")) and "bodySHA256=" in query
    )


_MESSAGES = WebhookSpec(
    verify=verify,
    signature_hint="it must be made with the endpoint's auth token over the public URL {public_url} "
    "(PALOMAR_PUBLIC_URL) with this path and query",
    accepts=_form_or_signed_json,
    accepted_types="application/x-www-form-urlencoded, or JSON with bodySHA256 in the query",
    answer=b'<?xml version="1.0" encoding="UTF-8"?><Response/>',
    answer_type="text/xml",
    stored_headers=("i-twilio-idempotency-token",),
)

WEBHOOKS: Final = replace(_MESSAGES, subpaths={STATUS: replace(_MESSAGES, only_receipts=always)})
