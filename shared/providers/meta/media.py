"""Locates files that customers sent through Meta.

A GET of the media id returns an address that is valid for five minutes; a GET of that address, again with the access
token, returns the file.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/media
"""

from functools import partial
from typing import Final
from urllib.parse import quote

import orjson

from shared.domain.media import Failure, of_status
from shared.domain.model import Media
from shared.providers.base import Throttled
from shared.providers.credentials import read_credentials
from shared.providers.json_fields import Fields, fields_of, text_of
from shared.providers.media_source import Direct, Get, Located, Source
from shared.providers.meta.client import MetaCredentials
from shared.providers.meta.errors import error_class

FILES: Final = "https://*.fbsbx.com"  # the addresses are of lookaside.fbsbx.com
NO_SUCH_OBJECT: Final = "33"  # subcode of 100: the file does not exist any more, or not for this token


def media_source(media: Media, credentials: str, *, api_url: str) -> Source:
    """Raises ValueError where the credentials are not those of a channel of Meta's."""
    token = read_credentials(MetaCredentials, credentials, "Meta").access_token.get_secret_value()
    headers, trusted = {"Authorization": f"Bearer {token}"}, (api_url, FILES)
    if media.id:
        url = f"{api_url.rstrip('/')}/{quote(media.id, safe='')}"
        return Located(Get(url, headers, trusted), partial(_located, media, headers, trusted))
    if media.url:
        return Direct(Get(media.url, headers, trusted), media.sha256, media.mime_type)
    return Failure("no_source")


def _located(
    media: Media, headers: dict[str, str], trusted: tuple[str, ...], status: int, body: bytes
) -> Direct | Failure:
    """The file's address in the answer, with the webhook's hash, which was signed, or else the answer's."""
    try:
        loaded = orjson.loads(body)
    except orjson.JSONDecodeError:
        loaded = None
    fields: Fields = loaded if isinstance(loaded, dict) else {}
    if failure := _refusal(status, fields):
        return failure
    url = text_of(fields, "url")
    if not url:
        return Failure("unreadable")
    sha256, mime_type = text_of(fields, "sha256") or None, text_of(fields, "mime_type") or None
    return Direct(Get(url, headers, trusted), media.sha256 or sha256, media.mime_type or mime_type)


def _refusal(status: int, fields: Fields) -> Failure | None:
    """The failure in an answer. The code decides first: a missing file is a 400, and a rate limit may be one."""
    error = fields_of(fields, "error")
    code, subcode = text_of(error, "code"), text_of(error, "error_subcode")
    if (code, subcode) == ("100", NO_SUCH_OBJECT):
        return Failure("gone", certain=False)
    if code and error_class(code) is Throttled and status != 429:
        return Failure("throttled")
    return of_status(status)
