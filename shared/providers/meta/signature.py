"""Verifies the signature of Meta's webhooks, and answers Meta when it verifies a webhook URL.

Source: https://developers.facebook.com/docs/graph-api/webhooks/getting-started.
"""

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qsl

from shared.providers.base import RawWebhook


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether one of `tokens` (app secrets; blank ones are ignored) signed the raw body.

    X-Hub-Signature-256 is `sha256=` and the hex HMAC-SHA256. Returns False for anything else, and never raises.
    """
    scheme, _, claimed = raw.headers.get("x-hub-signature-256", "").partition("=")
    if scheme != "sha256" or not claimed or not claimed.isascii():
        return False
    wanted = claimed.encode("ascii")
    keys = [token.encode("utf-8", "replace") for token in tokens if token]
    return any(hmac.compare_digest(hmac.digest(key, raw.body, "sha256").hex().encode(), wanted) for key in keys)


def challenge(query: str, verify_token: str) -> str | None:
    """The answer to a GET by which Meta verifies a webhook URL: its challenge; None where the token is wrong."""
    fields = dict(parse_qsl(query, keep_blank_values=True, errors="replace"))
    known = hmac.compare_digest(fields.get("hub.verify_token", "").encode(), verify_token.encode("utf-8", "replace"))
    if fields.get("hub.mode") != "subscribe" or not verify_token or not known:
        return None
    return fields.get("hub.challenge", "")
