"""Verifies the signature of Twilio's webhooks: https://www.twilio.com/docs/usage/security."""

import hmac
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from urllib.parse import urlsplit

from shared.providers.base import RawWebhook
from shared.providers.twilio.fields import form, is_get, is_json, query

_ALGORITHMS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether one of `tokens` (auth tokens or secrets of shared keys; blank ones are ignored) signed this request.

    The signature covers the URL, with or without its port, and the pairs of a form sorted by name, equal pairs once. It
    covers a JSON body by `bodySHA256` in the URL's query, without which JSON is refused. A GET is signed as its URL.
    Returns False for anything else, and never raises. Bytes that are not UTF-8 count as the U+FFFD that they decode to,
    as in every framework with the SDK's validator; Twilio itself sends none.
    """
    claimed = raw.headers.get("x-twilio-signature", "")
    algorithm = _algorithm(raw.headers.get("x-twilio-webhooks-signature-settings", ""))
    suffix = _signed_fields(raw)
    if not claimed or not claimed.isascii() or algorithm is None or suffix is None:
        return False
    wanted = claimed.encode("ascii")
    address, mark, query = raw.url.partition("?")
    rest = (mark + query).encode("utf-8", "replace") + suffix
    keys = [token.encode("utf-8", "replace") for token in tokens if token]
    return any(
        hmac.compare_digest(b2a_base64(hmac.digest(key, url + rest, algorithm), newline=False), wanted)
        for url in _with_and_without_port(address)
        for key in keys
    )


def _algorithm(settings: str) -> str | None:
    """hashlib's name of the algorithm in `key=…,algorithm=HMAC_SHA256`; SHA-1 where none is named, None if unknown."""
    for part in settings.split(",") if settings else ():
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            return _ALGORITHMS.get(value.strip().upper())
    return "sha1"


def _signed_fields(raw: RawWebhook) -> bytes | None:
    """The signed bytes that follow the URL; None where no signature can be right."""
    if is_get(raw):
        return b""
    if is_json(raw):
        given = next((value for name, value in form(query(raw.url)) or () if name == "bodySHA256"), "")
        matches = hmac.compare_digest(sha256(raw.body).hexdigest().encode(), given.encode("utf-8"))
        return b"" if matches else None
    pairs = form(raw.body.decode("utf-8", "replace"))
    if pairs is None:
        return None
    return "".join([name + value for name, value in sorted(set(pairs))]).encode("utf-8")


@lru_cache(maxsize=1024)
def _with_and_without_port(address: str) -> tuple[bytes, ...]:
    """A URL without its query in two forms: as it is, and with the scheme's default port added or its port removed."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return (address.encode("utf-8", "replace"),)
    if port is None:
        netloc = f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    else:
        netloc = parts.netloc.rpartition(":")[0]
    return address.encode("utf-8", "replace"), parts._replace(netloc=netloc).geturl().encode("utf-8", "replace")
