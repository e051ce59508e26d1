"""Kommo (formerly amoCRM): the chats of its accounts, through the Chats API and CRM webhooks."""

from shared.providers.base import Sender
from shared.providers.kommo.errors import error_class
from shared.providers.kommo.webhooks import CHATS, TRAITS, holds_secret, parse, verify

__all__ = ["CHATS", "TRAITS", "error_class", "holds_secret", "make_sender", "parse", "verify"]


def make_sender(credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> Sender:
    """A sender for one channel's credentials (JSON, opened). Make it inside a running loop.

    Raises ValueError naming each wrong field, never its value.
    """
    from shared.providers.kommo import send  # what calls over HTTP is of no use to who only reads webhooks

    return send.make_sender(credentials, api_url=api_url, timeout=timeout, proxy=proxy)
