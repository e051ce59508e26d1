"""How often an outage is worth a line in the log: once as it begins, then once a minute, and once as it ends. No I/O.

Whoever tries again every second would else write a line each second, and an operator looks for the one that matters.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

REMINDER: Final = 60.0  # seconds


@dataclass(slots=True)
class OutageLog:
    """One thing that may be away. `now` gives monotonic seconds."""

    now: Callable[[], float] = time.monotonic
    _began: float | None = field(default=None, init=False)
    _said: float = field(default=0.0, init=False)

    def failed(self) -> float | None:
        """Count a failure. Returns the seconds since the first one where a line is due, else None."""
        now = self.now()
        if self._began is None:
            self._began = now
        elif now - self._said < REMINDER:
            return None
        self._said = now
        return round(now - self._began, 1)

    def ended(self) -> float | None:
        """It answers. Returns the seconds that the outage lasted; None where there was none."""
        if self._began is None:
            return None
        lasted = self.now() - self._began
        self._began = None
        return round(lasted, 1)
