"""Locates files that customers sent through Twilio: a GET with the account's credentials, redirected to a CDN.

https://www.twilio.com/docs/messaging/api/media-resource: `MediaUrlN` is the resource's address at api.twilio.com, which
redirects to an address that is valid for some hours and needs no credentials.
"""

import aiohttp

from shared.domain.media import Failure
from shared.domain.model import Media
from shared.providers.credentials import read_credentials
from shared.providers.media_source import Direct, Get, Source
from shared.providers.twilio.client import TwilioCredentials


def media_source(media: Media, credentials: str, *, api_url: str) -> Source:
    """Raises ValueError where the credentials are not those of a Twilio channel."""
    if not media.url:
        return Failure("no_source")
    login = read_credentials(TwilioCredentials, credentials, "Twilio").login()
    headers = {"Authorization": aiohttp.encode_basic_auth(*login)}
    return Direct(Get(media.url, headers, (api_url,)), media.sha256, media.mime_type)
