"""HTTP for senders: a session that repeats no POST, answers read within bounds, and Retry-After."""

import contextlib
import math
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
import orjson

# A send on an idle connection that the provider has closed meanwhile has an unknown outcome: so it stays open briefly.
_KEEPALIVE = 10.0
_CONNECTIONS = 64  # as many as a channel's two queues make at once: a campaign that hangs blocks no reply
# Errors which prove that a request has not left: resolving, connecting or TLS failed, or the proxy refused.
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
_LONGEST_ANSWER = 2 * 1024 * 1024  # bytes
LONGEST_WAIT = 24 * 3600.0  # seconds; a longer Retry-After is cut to this


def base_of(url: str, setting: str) -> str:
    """An API's base address without a slash at its end. Raises ValueError that names the setting."""
    base = urlsplit(url)
    if base.scheme not in ("http", "https") or not base.netloc:
        raise ValueError(f"{setting}: an address such as https://api.example.com is needed")
    return f"{base.scheme}://{base.netloc}{base.path.rstrip('/')}"


def make_session(connect_timeout: float, proxy: str | None = None) -> aiohttp.ClientSession:
    """A session, through the proxy if any. Made inside a running loop, closed by its owner.

    The caller bounds a whole call by asyncio.timeout. The connect timeout must be shorter, because a call that failed
    to connect has provably sent nothing. aiohttp itself repeats a request whose connection turns out to be closed, but
    only with an idempotent method: never a POST.
    """
    return aiohttp.ClientSession(
        # The system's resolver, for the few names that an operator configures: where aiodns is installed aiohttp's own
        # choice is aiodns, which gives up sooner (shared/net/dns.py) and does not know every source of names.
        connector=aiohttp.TCPConnector(
            limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE, resolver=aiohttp.ThreadedResolver()
        ),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
    )


async def read(answer: aiohttp.ClientResponse) -> bytes:
    """The body. Of one beyond 2 MB only the beginning, which is then no JSON."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            break
    return bytes(body)


async def error_fields(answer: aiohttp.ClientResponse) -> dict[str, object]:
    """The JSON object of an unsuccessful answer; empty where there is none, which leaves the status to decide."""
    with contextlib.suppress(aiohttp.ClientError, orjson.JSONDecodeError):
        loaded = orjson.loads(await read(answer))
        if isinstance(loaded, dict):
            return loaded
    return {}


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, a number or an HTTP date (RFC 9110 §10.2.3); None where it is neither."""
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
