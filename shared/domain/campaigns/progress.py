"""How far a campaign is, how fast it gets on, and when it will be through: for a person who watches it. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

EVERY: Final = timedelta(seconds=2)
_NEWS: Final = 0.5  # weight of the last seconds' rate: one page more or less must not make the expected end leap

# What a running campaign waits for. Whom it writes to in the night is not here: others get theirs meanwhile.
WaitingFor = Literal["wave", "messaging_limit"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`left` recipients are pending, `done` became messages; `rate` in recipients a second; `eta`: when all are."""

    at: datetime
    done: int
    left: int
    rate: float
    eta: datetime | None
    waiting_for: WaitingFor | None = None

    def as_json(self) -> dict[str, Any]:
        """As the row has it."""
        return {
            "at": self.at.isoformat(),
            "done": self.done,
            "left": self.left,
            "rate": self.rate,
            "eta": None if self.eta is None else self.eta.isoformat(),
            "waiting_for": self.waiting_for,
        }


def advance(
    former: Mapping[str, Any] | None, recipients: Mapping[str, int], now: datetime, waiting_for: WaitingFor | None
) -> Progress | None:
    """The progress by the number of recipients in each state; None where the former one is of the last 2 seconds, and
    the campaign waits for the same."""
    left = recipients.get("pending", 0)
    done = sum(recipients.values()) - left - recipients.get("skipped", 0)
    began, before, rate = _read(former)
    if began is not None:
        passed = now - began
        if timedelta(0) <= passed < EVERY and former is not None and former.get("waiting_for") == waiting_for:
            return None
        if passed > timedelta(0):
            seen = max(0, done - before) / passed.total_seconds()
            rate = seen if rate == 0 else rate + (seen - rate) * _NEWS
    rate = round(rate, 2)
    running = rate > 0 and waiting_for is None
    try:
        eta = now + timedelta(seconds=left / rate) if running else None
    except OverflowError:
        eta = None
    return Progress(now, done, left, rate, eta, waiting_for)


def _read(stored: Mapping[str, Any] | None) -> tuple[datetime | None, int, float]:
    """When the former progress was, how many were done, and its rate; nothing where that can't be read."""
    try:
        if stored is not None and (at := datetime.fromisoformat(stored["at"])).utcoffset() is not None:
            return at, int(stored["done"]), float(stored["rate"])
    except (KeyError, TypeError, ValueError):
        pass
    return None, 0, 0.0
