"""Bounds the sockets and event streams that are open in a process, so that one tenant's leave room for all others'."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ingress.api.caller import Caller
from ingress.api.problems import TOO_MANY_REQUESTS, UNAVAILABLE, Problem

MOST: Final = 10_000
MOST_OF_ONE: Final = 1_000  # of a tenant, or of an operator's key
AGAIN: Final = 30.0  # seconds; Retry-After of one too many


class Connections:
    """All that are open."""

    def __init__(self) -> None:
        self._of: Counter[int] = Counter()
        self._open = 0

    @contextmanager
    def taken(self, caller: Caller) -> Iterator[None]:
        """Count one of this caller's until the block ends. Raises the problem of one too many."""
        number = caller.number
        if self._of[number] >= MOST_OF_ONE:
            raise Problem(TOO_MANY_REQUESTS, f"A tenant has at most {MOST_OF_ONE} of them open.", retry_after=AGAIN)
        if self._open >= MOST:
            raise Problem(UNAVAILABLE, "Too many are open in this process.", retry_after=AGAIN)
        self._open += 1
        self._of[number] += 1
        try:
            yield
        finally:
            self._open -= 1
            self._of[number] -= 1
            if not self._of[number]:
                del self._of[number]
