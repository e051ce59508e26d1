"""Lists of the secrets that an endpoint accepts webhooks by, the newest first. No I/O."""

import secrets
from collections.abc import Iterable
from typing import Final

from shared.providers.own_endpoint import Secrets

KEPT: Final = 2  # the one before stays good while it is being rotated, or until the new URL is entered


def texts(value: object) -> list[str]:
    """The texts of a list in an endpoint's secrets; none where it is no list."""
    return [str(one) for one in value] if isinstance(value, list) else []


def newest_first(secret: str, known: Iterable[str]) -> list[str]:
    """This secret, then the one before it."""
    return list(dict.fromkeys([secret, *known]))[:KEPT]


def new() -> str:
    """A secret of ours, as it may stand in a URL."""
    return secrets.token_urlsafe(24)


def in_url(known: Secrets) -> str:
    """What the webhook URL ends with; empty where the endpoint's secrets are not known."""
    return next(iter(texts(known.get("url_secrets"))), "")


def ending(secret: str) -> str:
    """How the URL of an endpoint ends where it holds a secret."""
    return secret or "(its secret does not open)"
