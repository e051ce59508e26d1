"""What every sender needs of HTTP: a session that repeats nothing, answers read within bounds, Retry-After."""

import contextlib
import math
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
import orjson

# A connection the other side has closed while it lay idle costs a send whose outcome nobody knows: keep few, briefly.
_KEEPALIVE = 10.0
_CONNECTIONS = 64  # as many calls as a channel's two lanes make at once: a campaign that hangs leaves replies theirs
# What proves that a request had not left: resolving, connecting or TLS failed, or a proxy did not open the way.
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
_LONGEST_ANSWER = 2 * 1024 * 1024  # bytes
# No wait a provider names is believed beyond this.
LONGEST_WAIT = 24 * 3600.0


def base_of(url: str, setting: str) -> str:
    """An API's base address without a slash at its end. Raises ValueError that names the setting."""
    base = urlsplit(url)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise ValueError(f"{setting}: an address such as https://api.example.com is needed")
    return f"{base.scheme}://{base.netloc}{base.path.rstrip('/')}"


def make_session(connect_timeout: float, proxy: str | None = None) -> aiohttp.ClientSession:
    """A session, through a proxy where one is named, to be made inside a running loop and closed by its owner.

    The caller's asyncio.timeout is the total; a slow connect must end before it, as it is provably harmless. aiohttp
    repeats a request by itself on a connection that turns out to be closed, but only idempotent methods: never a POST.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
    )


async def read(answer: aiohttp.ClientResponse) -> bytes:
    """The body; of an endless one only its beginning, which then is no JSON."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            break
    return bytes(body)


async def told(answer: aiohttp.ClientResponse) -> dict[str, object]:
    """The JSON object of an unsuccessful answer; empty where it does not arrive or is none: then the status tells."""
    with contextlib.suppress(aiohttp.ClientError, orjson.JSONDecodeError):
        loaded = orjson.loads(await read(answer))
        if isinstance(loaded, dict):
            return loaded
    return {}


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, a number or an HTTP date (RFC 9110 §10.2.3); None where it says nothing."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=now.tzinfo)) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None
