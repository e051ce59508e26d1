"""Decides when an outage is logged: when it begins, then once a minute, and when it ends. No I/O.

Code that tries again every second would otherwise log a line every second, which hides other lines.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

REMINDER: Final = 60.0  # seconds


@dataclass(slots=True)
class OutageLog:
    """The outages of one service. `now` is a monotonic clock in seconds."""

    now: Callable[[], float] = time.monotonic
    _began: float | None = field(default=None, init=False)
    _logged_at: float = field(default=0.0, init=False)

    def failed(self) -> float | None:
        """Record a failed attempt. Returns the seconds since the first one if a log line is due, else None."""
        now = self.now()
        if self._began is None:
            self._began = now
        elif now - self._logged_at < REMINDER:
            return None
        self._logged_at = now
        return round(now - self._began, 1)

    def ended(self) -> float | None:
        """Record a success. Returns the seconds that the outage lasted; None where there was none."""
        if self._began is None:
            return None
        lasted = self.now() - self._began
        self._began = None
        return round(lasted, 1)
