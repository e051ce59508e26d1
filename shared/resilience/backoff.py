"""Computes how long to wait before the next attempt: exponential backoff with jitter, or a schedule of fixed steps.

No I/O.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays in seconds between `first` and `longest`, each spread by ± `jitter` of itself.

    In both methods `roll` in [0, 1) replaces chance in tests.
    """

    first: float
    longest: float
    factor: float = 2.0
    jitter: float = 0.2

    def delay(self, attempt: int, roll: float | None = None) -> float:
        """Seconds to wait before attempt number `attempt` + 1."""
        exponent = min(max(attempt - 1, 0), 64)
        return self._spread(self.first * self.factor**exponent, roll)

    def delay_after(self, waited: float, roll: float | None = None) -> float:
        """Seconds to wait where the delays so far add up to `waited` seconds, for callers that count no attempts.

        It is the same schedule: the delays before the one of first × factorⁿ add up to (it - first) / (factor - 1).
        """
        return self._spread(self.first + max(waited, 0.0) * (self.factor - 1), roll)

    def _spread(self, seconds: float, roll: float | None) -> float:
        chance = random.random() if roll is None else roll  # spreads load; no secret depends on it
        return min(seconds, self.longest) * (1 + self.jitter * (2 * chance - 1))


def retry_step(attempt: int, after: float, delays: Sequence[float]) -> int | None:
    """The index of the retry step that follows failed attempt number `attempt` (from 1); None: no step is left.

    Each failure moves one step on. `after` asks for a step of at least so many seconds, or the longest if none is.
    """
    if attempt > len(delays):
        return None
    for step in range(attempt - 1, len(delays)):
        if delays[step] >= after:
            return step
    return len(delays) - 1
