"""The brake on burying: when most of what a worker finishes dies, the fault is not the items'. Pure."""

from collections import deque
from collections.abc import Callable


class Brake:
    """Engages when more than `share` of the last `window` finished items died; one success releases it.

    While it is on, one item may be tried every `trial` seconds. `now` is a monotonic clock in seconds.
    """

    def __init__(self, *, share: float, window: int, trial: float, now: Callable[[], float]) -> None:
        self._share = share
        self._finished: deque[bool] = deque(maxlen=window)
        self._trial = trial
        self._now = now
        self._next_trial = 0.0
        self.on = False

    def finished(self, *, died: bool) -> None:
        """Tell it that an item is done (or dead)."""
        self._finished.append(died)
        if self.on and not died:
            self.on = False
            self._finished.clear()
            return
        full = len(self._finished) == self._finished.maxlen
        if not self.on and full and sum(self._finished) > self._share * len(self._finished):
            self.on = True
            self._next_trial = self._now() + self._trial

    def wait(self) -> float:
        """Seconds until an item may be tried; 0 takes the turn."""
        if not self.on:
            return 0.0
        remaining = self._next_trial - self._now()
        if remaining > 0:
            return remaining
        self._next_trial = self._now() + self._trial
        return 0.0
