"""One attempt: a delivery's body, signed and posted."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.domain.webhooks.signatures import Signer
from shared.store.webhook_deliveries.turns import Attempt
from workers.webhook.recording import Result
from workers.webhook.resources import Answer, Way

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "Palomar"}


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The answer to a body that is not sent."""

    status: int | None = None
    body: bytes = b""
    retry_after: float | None = None
    error: str | None = "too_large"
    sent_again: float | None = None


async def post(way: Way, url: str, signer: Signer, attempt: Attempt) -> Result:
    """Make an attempt that is noted. Never raises for what the other side does."""
    started_at, began = datetime.now(UTC), time.monotonic()
    answer: Answer
    if attempt.body is None:
        answer = TooLarge()
    else:
        headers = signer.headers(str(attempt.delivery_id), int(started_at.timestamp()), attempt.body)
        answer = await way.post(url, attempt.body, headers | _HEADERS)
    took = time.monotonic() - began
    return Result(attempt, answer, started_at, started_at + timedelta(seconds=took), round(took * 1000))
