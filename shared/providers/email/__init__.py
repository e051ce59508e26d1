"""E-mail: in through an inbound-parse service, out through SMTP."""

from typing import Final

from shared.providers.base import Sender
from shared.providers.declaration import Provider
from shared.providers.email.compose import content_problem
from shared.providers.email.endpoint import WEBHOOKS, EmailSecrets
from shared.providers.email.errors import error_class
from shared.providers.email.onboarding import ONBOARDING
from shared.providers.email.webhooks import media_source, parse
from shared.settings import Settings


def _make_sender(credentials: str, settings: Settings) -> Sender:
    from shared.providers.email import send  # a process that reads webhooks alone needs no SMTP client

    # Each channel names its server. The proxy carries HTTP, so mails do not pass through it.
    return send.make_sender(credentials, private_hosts=settings.smtp_private_hosts, timeout=settings.send_timeout)


PROVIDER: Final = Provider(
    webhooks=WEBHOOKS,
    endpoint_secrets=EmailSecrets,
    parse=parse,
    parses_nul=True,
    onboarding=ONBOARDING,
    make_sender=_make_sender,
    error_class=error_class,
    content_problem=content_problem,
    address_kinds=("email",),
    # Many servers accept no mail beyond 10 MB, and files grow by a third when they are encoded.
    max_attachment_bytes=5 * 1024 * 1024,
    unsubscribe_links=True,
    media_source=media_source,
)
