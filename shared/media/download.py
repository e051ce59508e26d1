"""Downloads a file over HTTP into a sink, with bounds on time, size, type and redirects.

Each redirect is checked, credentials are sent only where they belong, and the bytes are counted and hashed as they
come. Only one chunk is in memory.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Final

import aiohttp
from yarl import URL

from shared.domain.media import Failure, Limits, digest_of, of_status, plain_type
from shared.net import ssrf_guard
from shared.net.address_rules import Rules, parsed
from shared.providers.http_client import retry_after
from shared.providers.media_source import Direct, Get, Located

MOST_REDIRECTS: Final = 5
LARGEST_ANSWER: Final = 256 * 1024  # bytes of an API's answer that says where the file is
CHUNK: Final = 256 * 1024
CONNECT_TIMEOUT: Final = 10.0  # seconds
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_UNNAMED: Final = (
    "",
    "application/octet-stream",
    "binary/octet-stream",
)  # what a server sends that does not know the type


@dataclass(frozen=True, slots=True)
class Fetched:
    sha256: bytes
    size: int
    mime_type: str | None  # by the server, where it names one


class Fetcher:
    """Downloads over one session; `async with` opens and closes it. `trusted`: see
    shared/net/address_rules.py."""

    def __init__(self, trusted: Iterable[str], limits: Limits, proxy: str | None = None) -> None:
        self._rules = Rules(tuple(trusted))
        self._limits = limits
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Fetcher":
        self._session = aiohttp.ClientSession(
            connector=ssrf_guard.connector(self._rules, proxy=self._proxy),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a megabyte may inflate to a gigabyte
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, source: Direct | Located, sink: IO[bytes], within: float) -> Fetched | Failure:
        """Download the file into `sink`, within so many seconds in all. Errors of the network and the server are
        returned, not raised."""
        try:
            async with asyncio.timeout(within):
                found = await self._locate(source) if isinstance(source, Located) else source
                return found if isinstance(found, Failure) else await self._download(found, sink)
        except TimeoutError:
            return Failure("timeout")
        except aiohttp.ClientPayloadError:
            return Failure("cut_off")
        except (aiohttp.InvalidURL, ValueError):
            return Failure("not_allowed")
        except aiohttp.ClientError as error:
            return Failure("not_allowed" if ssrf_guard.is_forbidden(error) else "unreachable")

    async def take(self, part: bytes, mime_type: str | None, sink: IO[bytes]) -> Fetched | Failure:
        """As `fetch`, for a file whose bytes are here already."""
        if not self._limits.allow(mime_type):
            return Failure("wrong_type")
        if len(part) > self._limits.size(mime_type):
            return Failure("too_large")
        await asyncio.to_thread(sink.write, part)
        return Fetched(hashlib.sha256(part).digest(), len(part), None)

    async def _locate(self, source: Located) -> Direct | Failure:
        async with self._answer(source.get) as answer:
            if isinstance(answer, Failure):
                return answer
            if (failure := _failure_of(answer)) is not None and failure.reason == "throttled":
                return failure
            body = bytearray()
            async for chunk in answer.content.iter_chunked(CHUNK):
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    return Failure("unreadable")
            return source.read(answer.status, bytes(body))

    async def _download(self, source: Direct, sink: IO[bytes]) -> Fetched | Failure:
        if not self._limits.allow(source.mime_type):
            return Failure("wrong_type")
        async with self._answer(source.get) as answer:
            if isinstance(answer, Failure):
                return answer
            if (failure := _failure_of(answer)) is not None:
                return failure
            named = plain_type(answer.headers.get("Content-Type"))
            mime_type = None if named in _UNNAMED else named
            if not self._limits.allow(mime_type):
                return Failure("wrong_type")
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                return Failure("rejected")  # though we asked for none
            most = self._limits.size(source.mime_type or mime_type)
            if (answer.content_length or 0) > most:
                return Failure("too_large")
            digest, size = hashlib.sha256(), 0
            async for chunk in answer.content.iter_chunked(CHUNK):
                size += len(chunk)
                if size > most:
                    return Failure("too_large")
                digest.update(chunk)
                await asyncio.to_thread(sink.write, chunk)
        announced = digest_of(source.sha256)
        if announced not in (None, digest.digest()):
            return Failure("wrong_hash")
        return Fetched(digest.digest(), size, mime_type)

    @asynccontextmanager
    async def _answer(self, get: Get) -> AsyncIterator[aiohttp.ClientResponse | Failure]:
        """The answer at the end of the redirects. Each address is checked as the first one is, and gets the headers
        only where they belong."""
        assert self._session is not None, "use the fetcher as `async with Fetcher(…)`"
        url = parsed(get.url)
        for _ in range(MOST_REDIRECTS + 1):
            if self._rules.problem(url) is not None:
                yield Failure("not_allowed")
                return
            headers = {"Accept-Encoding": "identity", **get.headers_for(url)}
            proxy = None if self._rules.trusts(url) else self._proxy
            async with self._session.get(url, headers=headers, allow_redirects=False, proxy=proxy) as answer:
                if answer.status not in _REDIRECTS:
                    yield answer
                    return
                url = _next(url, answer.headers.get("Location", ""))
        yield Failure("rejected")


def _next(url: URL, location: str) -> URL:
    """The URL that a redirect leads to. Raises ValueError where it names none."""
    if not location:
        raise ValueError("a redirect without Location")
    return url.join(parsed(location))


def _failure_of(answer: aiohttp.ClientResponse) -> Failure | None:
    return of_status(answer.status, retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)))
