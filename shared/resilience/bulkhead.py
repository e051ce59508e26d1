"""Limits how many of a process's slow calls one channel may hold, so that a hanging channel holds up no other. No I/O.

A bulkhead counts in this process alone.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

from shared.resilience.backoff import Backoff

T = TypeVar("T")

BACKOFF: Final = Backoff(first=2.0, longest=30.0, factor=1.5)  # between attempts at a bulkhead that is full
MOST_WAITING: Final = 1000  # per channel, remembered by a SharedBulkhead


class BulkheadFull(Exception):
    """The channel has reached its limit of calls."""


class Bulkhead:
    """Lets each channel have at most `limit` calls under way, and at least one."""

    def __init__(self, limit: int) -> None:
        self._limit = max(1, limit)
        self._acquired: Counter[UUID] = Counter()

    @contextmanager
    def acquire(self, channel_id: UUID) -> Iterator[None]:
        """Count one call of the channel until the block ends. Raises BulkheadFull where the channel is at its limit."""
        if self._acquired[channel_id] >= self._limit_now():
            raise BulkheadFull
        self._acquired[channel_id] += 1
        try:
            yield
        finally:
            self._acquired[channel_id] -= 1
            if not self._acquired[channel_id]:
                del self._acquired[channel_id]

    def _limit_now(self) -> int:
        return self._limit


class SharedBulkhead(Bulkhead, Generic[T]):
    """Divides a fixed number of calls among the channels that are there: each may have as many as it leaves free.

    A channel that is alone gets half of them, each of two a third. So a call is free for the next channel however many
    hang, and no channel needs to know of the others. What finds the bulkhead full is remembered, so that the channel's
    next free call goes to what has waited longest.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: calls of all channels together."""
        super().__init__(limit)
        self._waiting: dict[UUID, dict[T, None]] = {}  # by channel, in the order of asking

    def _limit_now(self) -> int:
        return max(1, self._limit - self._acquired.total())

    def remember(self, channel_id: UUID, what: T) -> None:
        """Keep this for `next`, unless the channel has MOST_WAITING already."""
        waiting = self._waiting.setdefault(channel_id, {})
        if len(waiting) < MOST_WAITING:
            waiting[what] = None

    def next(self, channel_id: UUID) -> T | None:
        """Remove and return what has waited longest for the channel; None where nothing waits."""
        waiting = self._waiting.get(channel_id)
        if not waiting:
            return None
        first = next(iter(waiting))
        del waiting[first]
        if not waiting:
            del self._waiting[channel_id]
        return first


def wait_when_full(waited: timedelta, roll: float | None = None) -> timedelta:
    """How long to wait before asking a full bulkhead again, for one that has waited so long already.

    `roll` in [0, 1) replaces chance in tests.
    """
    return timedelta(seconds=BACKOFF.delay_after(waited.total_seconds(), roll))
