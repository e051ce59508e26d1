"""The way out to tenants' systems, by the settings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.net.egress import Egress
from shared.providers.http_client import retry_after
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a POST."""

    status: int | None
    body: bytes  # its beginning
    retry_after: float | None  # seconds
    error: str | None
    sent_again: float | None  # seconds into the attempt at which it was sent a second time; None: it was not


class Way:
    """Posts to the URLs of webhooks."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Never raises for what the other side does."""
        answer = await self._egress.post(url, body, headers)
        wait = retry_after(answer.retry_after, datetime.now(UTC))
        return Answered(answer.status, answer.body, wait, answer.error, answer.sent_again)


@asynccontextmanager
async def open_way(settings: Settings) -> AsyncIterator[Way]:
    """The way out with the operator's rules and proxy."""
    proxy = settings.https_proxy.get_secret_value() or None
    async with Egress(settings.webhook_rules, proxy=proxy, timeout=settings.webhook_timeout) as egress:
        yield Way(egress)
