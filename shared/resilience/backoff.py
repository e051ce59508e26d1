"""Retry schedules as values; pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays in seconds between `first` and `longest`, each spread by ± `jitter` of itself."""

    first: float
    longest: float
    factor: float = 2.0
    jitter: float = 0.2

    def delay(self, attempt: int, roll: float | None = None) -> float:
        """Seconds to wait before attempt number `attempt` + 1; `roll` in [0, 1) replaces chance in tests."""
        exponent = min(max(attempt - 1, 0), 64)
        plain = min(self.first * self.factor**exponent, self.longest)
        chance = random.random() if roll is None else roll  # spreads load; no secret depends on it
        return plain * (1 + self.jitter * (2 * chance - 1))


def rung(attempt: int, after: float, delays: Sequence[float]) -> int | None:
    """Which step of the ladder comes after failed attempt number `attempt` (from 1); None: no step is left.

    Each failure goes one step further; `after` seconds asks for at least so long a step, the longest if none is.
    """
    if attempt > len(delays):
        return None
    for step in range(attempt - 1, len(delays)):
        if delays[step] >= after:
            return step
    return len(delays) - 1
