"""Measures how old the oldest unpublished event is."""

import time

from shared.process import metrics


class Lag:
    """How old the oldest unpublished event is. It grows by itself until it is measured again, or all is published."""

    def __init__(self) -> None:
        self._since: float | None = None

    def measured(self, seconds: float) -> None:
        self._since = time.monotonic() - seconds if seconds > 0 else None

    def seconds(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since


LAG = Lag()
metrics.RELAY_LAG.set_function(LAG.seconds)
