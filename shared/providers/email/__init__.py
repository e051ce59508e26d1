"""E-mail: in through an inbound-parse service, out through SMTP."""

from shared.providers.base import Sender
from shared.providers.email.errors import error_class
from shared.providers.email.webhooks import FORM, TRAITS, attached, media_source, parse, verify

__all__ = ["FORM", "TRAITS", "attached", "error_class", "make_sender", "media_source", "parse", "verify"]


def make_sender(credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> Sender:
    """A sender for one channel's credentials (JSON, opened). Make it inside a running loop.

    `api_url` names the hosts that may stand in a private network; a proxy carries HTTP, so mails pass it by. Raises
    ValueError naming each wrong field, never its value.
    """
    from shared.providers.email import send  # what calls over SMTP is of no use to who only reads webhooks

    return send.make_sender(credentials, private_hosts=api_url, timeout=timeout)
