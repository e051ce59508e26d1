"""Who may wait for somebody else: a channel holds a share of a worker's places, so that what hangs for it leaves the
others theirs. Pure: it counts in this process alone.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

T = TypeVar("T")

SHORTEST_WAIT: Final = 2.0  # seconds until one that found no place asks again
LONGEST_WAIT: Final = 30.0
SPREAD: Final = 0.2  # of the wait, up or down: those that were put off together come back apart
MOST_WAITING: Final = 1000  # per channel, remembered by a Lane


class NoPlaceError(Exception):
    """The channel has its share of the places already."""


class Places:
    """The places of one process that channels hold while an engine of theirs waits for somebody else."""

    def __init__(self, share: int) -> None:
        self._share = max(1, share)
        self._held: Counter[UUID] = Counter()

    @contextmanager
    def held(self, channel_id: UUID) -> Iterator[None]:
        """Hold one place of the channel's share. Raises NoPlaceError where it has none left."""
        if self._held[channel_id] >= self._share:
            raise NoPlaceError
        self._held[channel_id] += 1
        try:
            yield
        finally:
            self._held[channel_id] -= 1
            if not self._held[channel_id]:
                del self._held[channel_id]


class Lane(Generic[T]):
    """The places of one lane in one process. A channel may hold as many as it leaves free: alone half of them, beside
    another one a third. So however many channels hang, who comes next finds one, and no channel waits for itself only.

    What finds none is remembered, for the channel's next place to go on with.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: Counter[UUID] = Counter()
        self._waiting: dict[UUID, dict[T, None]] = {}  # by channel, in the order of asking

    @contextmanager
    def held(self, channel_id: UUID) -> Iterator[None]:
        """Hold a place. Raises NoPlaceError where the channel holds as many as are free."""
        if self._held[channel_id] >= max(1, self._places - self._held.total()):
            raise NoPlaceError
        self._held[channel_id] += 1
        try:
            yield
        finally:
            self._held[channel_id] -= 1
            if not self._held[channel_id]:
                del self._held[channel_id]

    def remember(self, channel_id: UUID, what: T) -> None:
        """For `next`; forgotten where too many are remembered already."""
        waiting = self._waiting.setdefault(channel_id, {})
        if len(waiting) < MOST_WAITING:
            waiting[what] = None

    def next(self, channel_id: UUID) -> T | None:
        """What has waited longest for a place of the channel, and waits no more; None where nothing does."""
        waiting = self._waiting.get(channel_id)
        if not waiting:
            return None
        first = next(iter(waiting))
        del waiting[first]
        if not waiting:
            del self._waiting[channel_id]
        return first


def wait_for_place(waited: timedelta, roll: float | None = None) -> timedelta:
    """When one that has waited so long for its answer asks again: later and later, for it is one of many.

    `roll` in [0, 1) replaces chance in tests.
    """
    plain = min(SHORTEST_WAIT + max(waited.total_seconds(), 0.0) / 2, LONGEST_WAIT)
    chance = random.random() if roll is None else roll  # spreads load; no secret depends on it
    return timedelta(seconds=plain * (1 + SPREAD * (2 * chance - 1)))
