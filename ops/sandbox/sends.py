"""Keeps the time, recipient and message id of every call that sends a message, in little memory.

`MessageLog` forgets old messages; this list goes on. Read it page by page with `GET /sandbox/sends`, or what it adds
up to with `GET /sandbox/sends/summary`.
"""

import time
from array import array
from collections import Counter
from typing import Final

from aiohttp import web

from ops.sandbox.bodies import json_answer, number

MOST: Final = 2_000_000  # calls that are kept; beyond, the older half is forgotten
PAGE: Final = 20_000  # calls of one answer, unless the query's `limit` says otherwise
MOST_ON_A_PAGE: Final = 100_000
MOST_REPEATED: Final = 100  # recipients and ids that a summary names


class Sends:
    """Calls by their place, which counts on for ever. A call counts as accepted after `accept` of its place."""

    def __init__(self) -> None:
        self._began = time.time() - time.monotonic()  # Unix seconds at which the monotonic clock was 0
        self._first = 0  # the place of the oldest one
        self._at = array("d")
        self._accepted = bytearray()
        self._to: list[str] = []
        self._ids: list[str] = []
        self._senders: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/sandbox/sends", self._page), web.get("/sandbox/sends/summary", self._summary)]

    def add(self, monotonic: float, to: str, own_id: str, sender: str) -> int:
        """Note a call; its place."""
        if len(self._at) >= MOST:
            self._forget(MOST // 2)
        self._at.append(monotonic)
        self._accepted.append(0)
        self._to.append(to)
        self._ids.append(own_id)
        self._senders.append(sender)
        return self._first + len(self._at) - 1

    def accept(self, place: int) -> None:
        if place >= self._first:
            self._accepted[place - self._first] = 1

    def clear(self) -> None:
        self._forget(len(self._at))

    def _forget(self, count: int) -> None:
        self._first += count
        for column in (self._at, self._accepted, self._to, self._ids, self._senders):
            del column[:count]

    async def _page(self, request: web.Request) -> web.Response:
        since = max(int(number(request, "since", 0, 2**53)), self._first)
        limit = int(number(request, "limit", PAGE, MOST_ON_A_PAGE))
        first = since - self._first
        last = min(first + limit, len(self._at))
        rows = [
            (
                round(self._began + self._at[i], 6),
                self._to[i],
                self._ids[i],
                self._senders[i],
                bool(self._accepted[i]),
            )
            for i in range(first, last)
        ]
        return json_answer({"next": since + len(rows), "more": last < len(self._at), "sends": rows})

    async def _summary(self, request: web.Request) -> web.Response:
        first = max(int(number(request, "since", 0, 2**53)), self._first) - self._first
        accepted = [i for i in range(first, len(self._at)) if self._accepted[i]]
        by_recipient = Counter(self._to[i] for i in accepted)
        by_id = Counter(self._ids[i] for i in accepted)
        return json_answer(
            {
                "calls": max(len(self._at) - first, 0),
                "accepted": len(accepted),
                "recipients": len(by_recipient),
                "repeated_recipients": _repeated(by_recipient),
                "repeated_ids": _repeated(by_id),
                "next": self._first + len(self._at),
            }
        )


def _repeated(counts: Counter[str]) -> dict[str, int]:
    """What came more than once, the most frequent first."""
    return {name: count for name, count in counts.most_common(MOST_REPEATED) if count > 1}
