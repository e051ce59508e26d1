"""Who may wait for an engine: a channel holds a share of a worker's places, so that its hung model leaves the others
theirs. Pure: it counts in this process alone.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

SHORTEST_WAIT: Final = 2.0  # seconds until one that found no place asks again
LONGEST_WAIT: Final = 30.0
SPREAD: Final = 0.2  # of the wait, up or down: those that were put off together come back apart


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


def wait_for_place(waited: timedelta, roll: float | None = None) -> timedelta:
    """When one that has waited so long for its answer asks again: later and later, for it is one of many.

    `roll` in [0, 1) replaces chance in tests.
    """
    plain = min(SHORTEST_WAIT + max(waited.total_seconds(), 0.0) / 2, LONGEST_WAIT)
    chance = random.random() if roll is None else roll  # spreads load; no secret depends on it
    return timedelta(seconds=plain * (1 + SPREAD * (2 * chance - 1)))
