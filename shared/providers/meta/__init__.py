"""Meta: WhatsApp through the Cloud API."""

from shared.domain.model import Media
from shared.providers.base import Sender
from shared.providers.media_source import Source
from shared.providers.meta.errors import by_receipt, error_class
from shared.providers.meta.webhooks import TRAITS, challenge, parse, verify

__all__ = ["TRAITS", "by_receipt", "challenge", "error_class", "make_sender", "media_source", "parse", "verify"]


def make_sender(credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> Sender:
    """A sender for one channel's credentials (JSON, opened). Make it inside a running loop.

    Raises ValueError naming each wrong field, never its value.
    """
    from shared.providers.meta import send  # what calls over HTTP is of no use to who only reads webhooks

    return send.make_sender(credentials, api_url=api_url, timeout=timeout, proxy=proxy)


def media_source(media: Media, credentials: str, *, api_url: str) -> Source:
    """Where a customer's file lies. Raises ValueError where the credentials can't be read."""
    from shared.providers.meta import media as files  # needed by who fetches files alone

    return files.media_source(media, credentials, api_url=api_url)
