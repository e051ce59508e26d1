"""When items stop being handled because most of them die: those of one tenant's channel, or a worker's. Pure.

Each tenant's channel has a circuit breaker of its own, so who fails is set apart and the others go on. The worker stops
only where items of several tenants die: then the fault is not the items'.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable
from typing import Final, Literal, NamedTuple
from uuid import UUID

Outcome = tuple[Hashable, bool]  # whose item it was, whether it died
Rule = Callable[[Collection[Outcome], float], bool]

MOST_SCOPES: Final = 2000  # channels with deaths that one process remembers; some kilobytes each
OTHERS_SHARE: Final = 0.2  # of a window: so many deaths of others than the worst tenant are no accident
COME_BACK: Final = 100  # items that are set apart and come back within the first interval; the next ones come later


class Scope(NamedTuple):
    """Whose an item is, as far as the item says it. The channel of a webhook is its endpoint."""

    tenant: UUID | None = None
    channel: UUID | None = None


NOBODYS: Final = Scope()


def most_died(finished: Collection[Outcome], share: float) -> bool:
    """Whether more than `share` of these died."""
    return sum(died for _, died in finished) > share * len(finished)


def several_fail(finished: Collection[Outcome], share: float) -> bool:
    """Whether most died, and most of those of others than the tenant with the most deaths too.

    An item that is nobody's is some other's each time.
    """
    if not most_died(finished, share):
        return False
    deaths = Counter(owner for owner, died in finished if died and owner is not None)
    worst = max(deaths, key=lambda owner: deaths[owner], default=None)
    others = [(owner, died) for owner, died in finished if owner is None or owner != worst]
    return most_died(others, share) and sum(died for _, died in others) >= OTHERS_SHARE * len(finished)


class Brake:
    """Engages when its rule finds that too many of the last `window` finished items died; one success releases it.

    While it is on, one item may be tried every `trial` seconds. `now` is a monotonic clock in seconds.
    """

    def __init__(
        self, *, share: float, window: int, trial: float, now: Callable[[], float], rule: Rule = most_died
    ) -> None:
        self._share = share
        self._finished: deque[Outcome] = deque(maxlen=window)
        self._trial = trial
        self._now = now
        self._rule = rule
        self._next_trial = 0.0
        self.on = False

    def finished(self, *, died: bool, owner: Hashable = None) -> None:
        """Count an item that is done, or dead."""
        self._finished.append((owner, died))
        if self.on:
            if not died:
                self.on = False
                self._finished.clear()
        elif died and len(self._finished) == self._finished.maxlen and self._rule(self._finished, self._share):
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

    @property
    def harmless(self) -> bool:
        """Whether nothing in its window died."""
        return not any(died for _, died in self._finished)


Change = Literal["engaged", "released"]


class Brakes:
    """A worker's own brake, and one for each tenant's channel whose items died lately."""

    def __init__(self, *, share: float, window: int, trial: float, longest: float, now: Callable[[], float]) -> None:
        """`longest`: seconds that an item which is set apart waits at most."""
        self.own = Brake(share=share, window=window, trial=trial, now=now, rule=several_fail)
        self._share, self._window, self._trial, self._longest, self._now = share, window, trial, longest, now
        self._scopes: dict[Scope, Brake] = {}
        self._apart: dict[Scope, int] = {}  # → items that came since its last trial

    @property
    def apart(self) -> Collection[Scope]:
        """Whose items are not handled."""
        return self._apart.keys()

    def finished(self, scope: Scope, *, died: bool) -> Change | None:
        """Count an item that is done, or dead; returns what that changed for its scope."""
        if died and scope in self._apart:
            return None  # a trial that failed says nothing new of the worker
        self.own.finished(died=died, owner=scope.tenant)
        return self._count(scope, died) if died or scope in self._scopes else None

    def _count(self, scope: Scope, died: bool) -> Change | None:
        if scope.tenant is None:
            return None
        brake = self._scopes.get(scope)
        if brake is None:
            if len(self._scopes) >= MOST_SCOPES:
                self._forget(
                    next((known for known in self._scopes if known not in self._apart), next(iter(self._scopes)))
                )
            brake = Brake(share=self._share, window=self._window, trial=self._trial, now=self._now)
            self._scopes[scope] = brake
        was = brake.on
        brake.finished(died=died)
        if brake.on and not was:
            self._apart[scope] = 0
            return "engaged"
        if not brake.on and brake.harmless:
            self._forget(scope)
        return "released" if was and not brake.on else None

    def _forget(self, scope: Scope) -> None:
        del self._scopes[scope]
        self._apart.pop(scope, None)

    def postponed(self, scope: Scope) -> float | None:
        """Seconds that an item of a scope that is set apart waits, longer the more there are; None: its turn to be
        tried."""
        if self._scopes[scope].wait() == 0:
            self._apart[scope] = 0
            return None
        self._apart[scope] += 1
        return min(self._trial * (1 + self._apart[scope] // COME_BACK), self._longest)
