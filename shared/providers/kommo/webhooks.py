"""Kommo (formerly amoCRM): webhooks in (`holds_secret`, `verify`, `parse`), messages out (`make_sender`).

Two interfaces. CRM webhooks tell of everything in an account, also of what customers write in any of its chats; they
are not signed, so the secret is the last part of their URL. The Chats API tells what managers write in the chats of one
channel, signed, and is what we send through.

Sources: https://developers.kommo.com/docs/webhooks-general, https://developers.kommo.com/reference/receiving-chat-webhooks
…/send-import-messages and …/update-delivery-status.
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

CHATS: Final = "chats"  # in a webhook's path, before the scope id that Kommo puts at its end
_SCOPE = re.compile(r"[!-~]{1,200}")


def holds_secret(raw: RawWebhook, secrets: Sequence[str]) -> bool:
    """Whether the last part of the URL's path is one of the secrets; blank ones count for nothing."""
    given = urlsplit(raw.url).path.rpartition("/")[2].encode("utf-8", "replace")
    return any(hmac.compare_digest(secret.encode("utf-8", "replace"), given) for secret in secrets if secret)


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether one of `tokens` (channel secrets; blank ones count for nothing) signed the body, as it is or trimmed.

    X-Signature is the hex HMAC-SHA1. False, and never an exception, for anything else.
    """
    claimed = raw.headers.get("x-signature", "").strip().lower()
    if not claimed or not claimed.isascii():
        return False
    keys = [token.encode("utf-8", "replace") for token in tokens if token]
    bodies = {raw.body, raw.body.strip()}
    return any(hmac.compare_digest(hmac.digest(key, body, "sha1").hex(), claimed) for key in keys for body in bodies)


def parse(raw: RawWebhook) -> Parsed:
    """All a webhook says, of either interface: customers' and managers' messages, and everything else. Never raises.

    What cannot be read is a sentence in `errors` that names its place; everything beside it is read all the same.
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
