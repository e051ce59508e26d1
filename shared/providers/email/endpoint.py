"""The webhook URL of an inbound-parse service, `/webhooks/email/ENDPOINT/SECRET`, which brings each mail."""

from typing import ClassVar, Final

from pydantic import Field

from shared.providers.email.forms import FORM
from shared.providers.email.webhooks import verify
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec


class EmailSecrets(EndpointSecrets):
    EXAMPLE: ClassVar[str] = '{"url_secrets": ["…"]}'

    url_secrets: tuple[str, ...] = Field(min_length=1)


def _is_multipart_form(media_type: str, query: str) -> bool:
    return media_type == FORM


WEBHOOKS: Final = WebhookSpec(
    verify=verify,
    signature_hint="the URL must end with the secret that `palomar channels add` printed for this endpoint",
    accepts=_is_multipart_form,
    accepted_types="multipart/form-data, as an inbound-parse webhook posts a mail",
    body_limit=10 * 1024 * 1024,
    body_timeout_factor=3.0,
    extra_segments=(1,),
    secret_in_url=True,
)
