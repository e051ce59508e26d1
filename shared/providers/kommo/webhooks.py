"""Verifies and parses the webhooks of Kommo's two interfaces.

CRM webhooks hold all events of an account, among them customers' messages in any of its chats. They are not signed: the
last segment of their URL is a secret. The Chats API's webhooks hold agents' messages in the chats of one channel, and
are signed; messages are sent through the Chats API.

Sources: https://developers.kommo.com/docs/webhooks-general and
https://developers.kommo.com/reference/receiving-chat-webhooks.
"""

import hmac
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from shared.providers.base import SOLE_CHANNEL, Parsed, RawWebhook
from shared.providers.json_fields import loaded
from shared.providers.kommo.chats import is_chats, read_chats
from shared.providers.kommo.crm import read_crm
from shared.providers.kommo.fields import Found, nested

CHATS: Final = "chats"  # a segment of the webhook's path; Kommo appends the scope id
_SCOPE = re.compile(r"[!-~]{1,200}")


def holds_secret(raw: RawWebhook, secrets: Sequence[str]) -> bool:
    """Whether the last segment of the URL's path is one of the secrets. Blank ones are ignored."""
    given = urlsplit(raw.url).path.rpartition("/")[2].encode("utf-8", "replace")
    return any(hmac.compare_digest(secret.encode("utf-8", "replace"), given) for secret in secrets if secret)


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether one of `tokens` (channel secrets; blank ones are ignored) signed the body, as it is or trimmed.

    X-Signature is the hex HMAC-SHA1. Returns False for anything else, and never raises.
    """
    claimed = raw.headers.get("x-signature", "").strip().lower()
    if not claimed or not claimed.isascii():
        return False
    keys = [token.encode("utf-8", "replace") for token in tokens if token]
    bodies = {raw.body, raw.body.strip()}
    return any(hmac.compare_digest(hmac.digest(key, body, "sha1").hex(), claimed) for key in keys for body in bodies)


def parse(raw: RawWebhook) -> Parsed:
    """Parse all of a webhook of either interface: customers' and agents' messages, and other events. Never raises.

    What cannot be read is a sentence in `errors` that names its place, and costs nothing else.
    """
    found = Found()
    root: object
    if raw.body.lstrip()[:1] in (b"{", b"["):
        root, problem = loaded(raw.body)
        if problem:
            found.errors.append(f"body: {problem}")
    else:
        root = nested(raw.body.strip(), found.errors)
    if not isinstance(root, dict) or not root:
        if not found.errors:
            found.errors.append("body: fields such as message[add][0][id], or a JSON object, are needed")
    elif is_chats(root):
        read_chats(root, _scope_of(raw.url), found)
    else:
        read_crm(root, found)
    return found.parsed()


def _scope_of(url: str) -> str:
    """The scope id at the end of a Chats API webhook's URL, which is our channel's address."""
    place, _, scope = urlsplit(url).path.rpartition("/")
    scope = unquote(scope)
    return scope if place.endswith(f"/{CHATS}") and _SCOPE.fullmatch(scope) else SOLE_CHANNEL
