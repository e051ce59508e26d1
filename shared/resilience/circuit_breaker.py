"""Stops the jobs of a tenant's channel, or of a whole worker, while most of them fail permanently. No I/O.

Each tenant's channel has a circuit breaker of its own, so that a failing channel holds up no other. The worker's own
breaker opens only where jobs of several tenants fail: then the fault is not in the jobs.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable
from typing import Final, Literal, NamedTuple
from uuid import UUID

Outcome = tuple[Hashable, bool]  # the tenant whose job it was, whether the job failed permanently
Rule = Callable[[Collection[Outcome], float], bool]

MOST_SCOPES: Final = 2000  # channels with failures that one process remembers; some kilobytes each
OTHERS_SHARE: Final = 0.2  # of a window: so many failures outside the worst tenant are no accident
JOBS_PER_INTERVAL: Final = 100  # jobs of an open scope that come back within the first interval; later jobs wait longer


class Scope(NamedTuple):
    """The tenant and the channel of a job, as far as the job names them. The channel of a webhook is its endpoint."""

    tenant: UUID | None = None
    channel: UUID | None = None


NO_SCOPE: Final = Scope()


def most_failed(finished: Collection[Outcome], share: float) -> bool:
    """Whether more than `share` of these failed."""
    return sum(failed for _, failed in finished) > share * len(finished)


def several_tenants_fail(finished: Collection[Outcome], share: float) -> bool:
    """Whether most failed, and most of the jobs outside the tenant with the most failures failed too.

    Each job without a tenant counts as one of another tenant.
    """
    if not most_failed(finished, share):
        return False
    failures = Counter(tenant for tenant, failed in finished if failed and tenant is not None)
    worst = max(failures, key=lambda tenant: failures[tenant], default=None)
    others = [(tenant, failed) for tenant, failed in finished if tenant is None or tenant != worst]
    return most_failed(others, share) and sum(failed for _, failed in others) >= OTHERS_SHARE * len(finished)


class CircuitBreaker:
    """Opens when its rule finds that too many of the last `window` jobs failed; one success closes it.

    While it is open, one job may be tried every `trial` seconds. `now` is a monotonic clock in seconds.
    """

    def __init__(
        self, *, share: float, window: int, trial: float, now: Callable[[], float], rule: Rule = most_failed
    ) -> None:
        self._share = share
        self._finished: deque[Outcome] = deque(maxlen=window)
        self._trial = trial
        self._now = now
        self._rule = rule
        self._next_trial = 0.0
        self.open = False

    def record(self, *, failed: bool, tenant: Hashable = None) -> None:
        """Count a job that succeeded or failed permanently."""
        self._finished.append((tenant, failed))
        if self.open:
            if not failed:
                self.open = False
                self._finished.clear()
        elif failed and len(self._finished) == self._finished.maxlen and self._rule(self._finished, self._share):
            self.open = True
            self._next_trial = self._now() + self._trial

    def wait(self) -> float:
        """Seconds until a job may be tried. 0 reserves the trial: the next call has to wait for the one after it."""
        if not self.open:
            return 0.0
        remaining = self._next_trial - self._now()
        if remaining > 0:
            return remaining
        self._next_trial = self._now() + self._trial
        return 0.0

    @property
    def no_failures(self) -> bool:
        """Whether no job in its window failed."""
        return not any(failed for _, failed in self._finished)


Change = Literal["opened", "closed"]


class CircuitBreakers:
    """A worker's own circuit breaker, and one for each tenant's channel whose jobs failed lately."""

    def __init__(self, *, share: float, window: int, trial: float, longest: float, now: Callable[[], float]) -> None:
        """`longest`: the most seconds that a job of an open scope waits."""
        self.worker = CircuitBreaker(share=share, window=window, trial=trial, now=now, rule=several_tenants_fail)
        self._share, self._window, self._trial, self._longest, self._now = share, window, trial, longest, now
        self._scopes: dict[Scope, CircuitBreaker] = {}
        self._open: dict[Scope, int] = {}  # → jobs that came since its last trial

    @property
    def open_scopes(self) -> Collection[Scope]:
        """The scopes whose jobs are not handled."""
        return self._open.keys()

    def record(self, scope: Scope, *, failed: bool) -> Change | None:
        """Count a job that succeeded or failed permanently; returns how the breaker of its scope changed."""
        if failed and scope in self._open:
            return None  # a failed trial is no news about the worker
        self.worker.record(failed=failed, tenant=scope.tenant)
        return self._record_scope(scope, failed) if failed or scope in self._scopes else None

    def _record_scope(self, scope: Scope, failed: bool) -> Change | None:
        if scope.tenant is None:
            return None
        breaker = self._scopes.get(scope)
        if breaker is None:
            if len(self._scopes) >= MOST_SCOPES:
                self._forget(
                    next((known for known in self._scopes if known not in self._open), next(iter(self._scopes)))
                )
            breaker = CircuitBreaker(share=self._share, window=self._window, trial=self._trial, now=self._now)
            self._scopes[scope] = breaker
        was_open = breaker.open
        breaker.record(failed=failed)
        if breaker.open and not was_open:
            self._open[scope] = 0
            return "opened"
        if not breaker.open and breaker.no_failures:
            self._forget(scope)
        return "closed" if was_open and not breaker.open else None

    def _forget(self, scope: Scope) -> None:
        del self._scopes[scope]
        self._open.pop(scope, None)

    def wait(self, scope: Scope) -> float | None:
        """Seconds that a job of an open scope waits, longer the more of them there are.

        None: this job is the scope's next trial.
        """
        if self._scopes[scope].wait() == 0:
            self._open[scope] = 0
            return None
        self._open[scope] += 1
        return min(self._trial * (1 + self._open[scope] // JOBS_PER_INTERVAL), self._longest)
