"""Plays the rate limits of senders: so many calls a second, one message in so many seconds to one recipient.

`POST /sandbox/limits` sets those of a sender: a phone number id of Meta's, Twilio's From, a scope id of Kommo's.
Without a limit a sender may send as fast as it likes.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.bodies import json_answer, read_json

MOST_PAIRS: Final = 200_000  # recipients whose last message is remembered, of one sender
WINDOW: Final = 1.0  # seconds over which a rate is counted
Exceeded = Literal["rate", "pair"]


class Limit(BaseModel):
    """A sender's limits. `code` replaces the provider's own code of an exceeded rate: 63018, for instance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["twilio", "meta", "kommo"]
    sender: Annotated[str, Field(min_length=1, max_length=100)]
    per_second: int | None = Field(default=None, ge=1, le=100_000, description="in any second; null: no limit")
    counts_inbound: bool = Field(default=True, description="whether what customers write counts too, as at Meta")
    pair_seconds: float | None = Field(default=None, gt=0, le=3600, description="between two to one recipient")
    code: int | None = None
    retry_after: int | None = Field(default=None, ge=0, description="seconds, sent as Retry-After")


_LIMITS = TypeAdapter(list[Limit])


@dataclass(slots=True)
class _Counted:
    """A limit with what it has let pass: instants of the last second, and of each recipient's last message."""

    limit: Limit
    passed: deque[float] = field(default_factory=deque)
    last_to: dict[str, float] = field(default_factory=dict)
    exceeded: dict[Exceeded, int] = field(default_factory=lambda: {"rate": 0, "pair": 0})

    def full(self, now: float) -> bool:
        while self.passed and self.passed[0] <= now - WINDOW:
            self.passed.popleft()
        return self.limit.per_second is not None and len(self.passed) >= self.limit.per_second

    def too_soon(self, to: str, now: float) -> bool:
        last = self.last_to.get(to)
        return self.limit.pair_seconds is not None and last is not None and now - last < self.limit.pair_seconds

    def let_pass(self, to: str, now: float) -> None:
        self.passed.append(now)
        if self.limit.pair_seconds is None:
            return
        self.last_to.pop(to, None)  # so that the order of the dict is that of sending
        self.last_to[to] = now
        if len(self.last_to) > MOST_PAIRS:
            del self.last_to[next(iter(self.last_to))]


class Limits:
    """The limits of all senders. A call that is refused by one counts against none."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], _Counted] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/sandbox/limits", self._set),
            web.get("/sandbox/limits", self._show),
            web.delete("/sandbox/limits", self._clear),
        ]

    def exceeded(self, provider: str, sender: str, to: str) -> tuple[Exceeded, Limit] | None:
        """Which limit this call exceeds; None: it may pass, and counts."""
        counted = self._of.get((provider, sender))
        if counted is None:
            return None
        now = time.monotonic()
        found: Exceeded | None = "rate" if counted.full(now) else "pair" if counted.too_soon(to, now) else None
        if found is None:
            counted.let_pass(to, now)
            return None
        counted.exceeded[found] += 1
        return found, counted.limit

    def received(self, provider: str, sender: str) -> None:
        """A customer wrote to this sender."""
        counted = self._of.get((provider, sender))
        if counted is not None and counted.limit.counts_inbound:
            counted.passed.append(time.monotonic())

    async def _set(self, request: web.Request) -> web.Response:
        for limit in await read_json(request, _LIMITS):
            self._of[limit.provider, limit.sender] = _Counted(limit)
        return web.Response(status=204)

    async def _show(self, _: web.Request) -> web.Response:
        return json_answer(
            [counted.limit.model_dump() | {"exceeded": counted.exceeded} for counted in self._of.values()]
        )

    async def _clear(self, _: web.Request) -> web.Response:
        self._of.clear()
        return web.Response(status=204)
