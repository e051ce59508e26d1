"""Delivers the status webhooks of the sandbox's Meta: one for each step of a message, or many in one."""

import time
from functools import partial
from typing import NamedTuple

from ops.sandbox.courier import Courier, RetryPolicy
from ops.sandbox.meta_forms import Json, status_update_of, statuses_body, webhook_headers
from ops.sandbox.meta_numbers import Number
from ops.sandbox.receipts import Planned
from ops.sandbox.record import PostedReceipt, SentMessage

# Meta tries for days; on this machine what the courier has for a webhook must do.
RETRIES = RetryPolicy(7, frozenset({"all"}))
MOST_IN_ONE = 1000  # statuses of one webhook, as at Meta


class _Status(NamedTuple):
    message: SentMessage
    step: Planned
    update: Json


class Statuses:
    """The statuses of all numbers. Those of a number with `batch_seconds` wait for one another."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._waiting: dict[tuple[str, str], list[_Status]] = {}  # (URL, phone number id) → oldest first

    async def deliver(self, number: Number, message: SentMessage, opaque: str | None, step: Planned) -> None:
        """Send the app the status of this step, as often as it says; in a batch, later."""
        url = message.status_callback
        if url is None:
            return
        status = _Status(message, step, status_update_of(message, step, opaque))
        for _ in range(step.copies):
            if not number.batch_seconds:
                await self._post(number, url, [status])
                continue
            waiting = self._waiting.setdefault((url, number.phone_number_id), [])
            waiting.append(status)
            if len(waiting) == 1:
                self._courier.later(number.batch_seconds, partial(self._flush, number, url))

    async def _flush(self, number: Number, url: str) -> None:
        waiting = self._waiting.pop((url, number.phone_number_id), [])
        for first in range(0, len(waiting), MOST_IN_ONE):
            await self._post(number, url, waiting[first : first + MOST_IN_ONE])

    async def _post(self, number: Number, url: str, statuses: list[_Status]) -> None:
        body = statuses_body(number.account, number.phone_number_id, [one.update for one in statuses])
        posted_at = time.time()
        delivery = await self._courier.deliver(url, body, webhook_headers(body, number.app_secret), RETRIES)
        for message, step, _ in statuses:
            message.statuses.append(
                PostedReceipt(step.status, step.error_code, posted_at, delivery.status, delivery.attempts)
            )
