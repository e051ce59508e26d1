"""The way out to tenants' systems: one POST, guarded, without redirects, with a bound for its time and its answer."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from shared.net import ssrf_guard
from shared.settings import Settings

KEPT: Final = 4096  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a POST."""

    status: int | None = None
    body: bytes = b""
    retry_after: float | None = None
    error: str | None = None


class Way:
    """Posts over one session."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Never raises for what the other side does."""
        try:
            async with (
                asyncio.timeout(self._settings.webhook_timeout),
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                found = bytearray()
                async for chunk in answer.content.iter_any():
                    found += chunk
                    if len(found) >= KEPT:
                        break
                return Answered(
                    answer.status,
                    bytes(found[:KEPT]),
                    _seconds(answer.headers.get("Retry-After")),
                    _error(answer.status),
                )
        except TimeoutError:
            return Answered(error="timeout")
        except aiohttp.ClientConnectorDNSError:
            return Answered(error="dns")
        except aiohttp.ClientPayloadError:
            return Answered(error="cut_off")
        except (aiohttp.ClientError, ValueError, OSError) as error:
            return Answered(error="not_allowed" if ssrf_guard.is_forbidden(error) else "connect")


@asynccontextmanager
async def open_way(settings: Settings) -> AsyncIterator[Way]:
    connector = aiohttp.TCPConnector(limit=0) if settings.webhook_http else ssrf_guard.connector((), limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Way(session, settings)


def _error(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    return "gone" if status == 410 else "redirect" if 300 <= status < 400 else "status"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
