"""How many attempts of one webhook run at once and start in a second, as this process knows it. No I/O."""

from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import UUID

from shared.domain.webhooks.health import concurrency
from shared.store.webhook_deliveries.facts import Key

AT_FIRST: Final = 2  # at once, of a webhook that this process does not know
WHILE_SILENT: Final = 2  # at once, of one whose calls have had no answer for a while
PATIENCE: Final = 1.0  # seconds that an answer may take without this
USUAL: Final = 3  # times what answers took lately, where this is more
SMOOTHED: Final = 0.2  # of what answers took lately is the last one
BURST: Final = 0.1  # seconds of the rate that may start together
FOR_PROVEN: Final = 4  # one in so many of a process's places is for webhooks that answer
REMEMBERED: Final = 10_000  # webhooks


class Pace:
    """Of one webhook."""

    def __init__(self, most: int, rate: int, at_once: int, now: Callable[[], float]) -> None:
        self._most = most
        self._rate = rate
        self._now = now
        self.at_once = min(at_once, most)
        self._good = 0
        self._tokens = self._burst
        self._at = now()
        self._silent_since = now()  # the last answer, or when nothing was under way
        self._took = 0.0  # seconds that answers took lately
        self._has_answered = False  # since its last timeout

    @property
    def _burst(self) -> float:
        return max(float(self._most), self._rate * BURST)

    def room(self, under_way: int) -> int:
        """How many more attempts may start, while so many are under way.

        Where these have had no answer for a while it hangs, and holds no more of the process's places than a few.
        """
        if not under_way:
            self._silent_since = self._now()
        at_once = min(self.at_once, WHILE_SILENT) if self._is_silent else self.at_once
        return min(at_once - under_way, self.allowance())

    @property
    def is_proven(self) -> bool:
        """Whether it answers, as far as this process knows."""
        return self._has_answered and not self._is_silent

    @property
    def _is_silent(self) -> bool:
        return self._now() - self._silent_since > max(PATIENCE, USUAL * self._took)

    def allowance(self) -> int:
        """How many attempts the rate allows for now."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return int(self._tokens)

    def use(self, attempts: int) -> None:
        self._tokens -= attempts

    @property
    def wait(self) -> float:
        """Seconds until the rate allows for another attempt."""
        return max(0.0, (1 - self._tokens) / self._rate)

    def answered(self, seconds: float) -> None:
        """An answer came, or what is as good: so many seconds after its call it was plain that there is none."""
        self._has_answered = True
        self._silent_since = self._now()
        self._took += SMOOTHED * (seconds - self._took)

    def timed_out(self) -> None:
        """A call had no answer in its time."""
        self._has_answered = False

    def ended(self, succeeded: bool) -> None:
        """An attempt of a delivery ended. As many good ones as run at once are a good batch."""
        if not succeeded:
            self.at_once, self._good = concurrency(self.at_once, False, self._most), 0
            return
        self._good += 1
        if self._good >= self.at_once:
            self.at_once, self._good = concurrency(self.at_once, True, self._most), 0

    def begin_slowly(self) -> None:
        """The webhook was down: one at a time at first."""
        self.at_once, self._good = 1, 0


class Paces:
    """Of the webhooks that this process delivers to."""

    def __init__(self, most: int, rate: int, now: Callable[[], float]) -> None:
        self._most = most
        self._rate = rate
        self._now = now
        self._known: dict[Key, Pace] = {}

    def of(self, webhook: Key, failures: int) -> Pace:
        """The pace of a webhook, which has failed so many times in a row."""
        pace = self._known.pop(webhook, None)
        if pace is None:
            pace = Pace(self._most, self._rate, 1 if failures else AT_FIRST, self._now)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
        self._known[webhook] = pace
        return pace


class Places:
    """The process's attempts under way, divided among tenants: each may have as many as it leaves free.

    Some are for webhooks that answer: however many hang, the others have these.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_tenants: Counter[UUID] = Counter()
        self._total = 0

    def free_for(self, tenant_id: UUID, *, proven: bool) -> int:
        """How many more a tenant may have now, for a webhook that is proven to answer or not."""
        most = self._most if proven else self._most - self._most // FOR_PROVEN
        return max(0, most - self._total - self._of_tenants[tenant_id])

    def enter(self, tenant_id: UUID, attempts: int = 1) -> None:
        self._of_tenants[tenant_id] += attempts
        self._total += attempts

    def leave(self, tenant_id: UUID) -> None:
        self._of_tenants[tenant_id] -= 1
        self._total -= 1
        if not self._of_tenants[tenant_id]:
            del self._of_tenants[tenant_id]
