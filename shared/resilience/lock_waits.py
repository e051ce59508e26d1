"""Remembers which tenants' jobs lately waited for a lock in vain, and when their next job is tried. No I/O.

A tenant that may write rows by SQL may lock them for as long as it likes. Only that tenant's jobs wait for the lock,
and few of them at once: each holds one of the process's few connections, which the jobs of others need.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.resilience.backoff import Backoff

PAUSE: Final = Backoff(first=1.0, longest=30.0, jitter=0.0)  # seconds without an attempt, longer after each one in vain
REMEMBERED: Final = 60.0  # seconds after the last lock in which a tenant's jobs are handled one by one
MOST_TENANTS: Final = 10_000  # that one process remembers; the oldest are forgotten first


class Locked(Exception):
    """The job's tenant locks rows that the job needs: it waits for `after` seconds, and no attempt is counted."""

    def __init__(self, after: float) -> None:
        super().__init__("its tenant holds a lock")
        self.after = after


@dataclass(slots=True)
class _Waits:
    in_vain: int  # attempts in a row
    until: float  # no attempt before
    forgotten_at: float
    last: float  # when a job last waited in vain


class LockWaits:
    """The tenants that are known to hold locks, for one worker. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tenants: dict[UUID, _Waits] = {}

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __contains__(self, tenant: UUID | None) -> bool:
        """Whether a job of this tenant waited in vain within the last minute."""
        if tenant is None or (waits := self._tenants.get(tenant)) is None:
            return False
        if waits.forgotten_at > self._now():
            return True
        del self._tenants[tenant]
        return False

    def in_vain(self, tenant: UUID) -> float:
        """Record that a job of this tenant waited in vain; returns the seconds until its next job is tried."""
        now = self._now()
        known = self._tenants.pop(tenant) if tenant in self else _Waits(0, 0.0, 0.0, 0.0)
        known.last = now
        if known.until <= now:  # else this job started before the last one that waited in vain had ended
            pause = PAUSE.delay(known.in_vain + 1)
            known = _Waits(known.in_vain + 1, now + pause, now + pause + REMEMBERED, now)
        if len(self._tenants) >= MOST_TENANTS:
            del self._tenants[next(iter(self._tenants))]
        self._tenants[tenant] = known
        return known.until - now

    def went_through(self, tenant: UUID | None) -> None:
        """Record that a job of this tenant was handled: the next ones are tried at once, one by one for a while."""
        if tenant is not None and (waits := self._tenants.get(tenant)) is not None:
            waits.until = 0.0

    def wait(self, tenant: UUID | None) -> float:
        """Seconds until a job of this tenant may be tried. 0 reserves the attempt, so that one is tried at a time."""
        if tenant is None or (waits := self._tenants.get(tenant)) is None or not waits.until:
            return 0.0
        remaining = waits.until - self._now()
        if remaining <= 0:
            waits.until = self._now() + PAUSE.first
        return max(remaining, 0.0)

    @contextmanager
    def handling(self, tenant: UUID | None) -> Iterator[None]:
        """Mark the block as the handling of this tenant's job, which is what `give_way` checks."""
        token = _HANDLED.set(None if tenant is None else (self, tenant, self._now()))
        try:
            yield
        finally:
            _HANDLED.reset(token)

    def give_way(self, tenant: UUID, began: float) -> None:
        """Raise Locked where another job of this tenant waited in vain after this one began."""
        if (waits := self._tenants.get(tenant)) is not None and waits.last > began:
            raise Locked(max(waits.until - self._now(), PAUSE.first))


_HANDLED: Final = ContextVar[tuple[LockWaits, UUID, float] | None]("the job at hand", default=None)


def give_way() -> None:
    """Raise Locked where the job at hand would wait for a lock too. Called whenever a job gets a connection."""
    if (handled := _HANDLED.get()) is not None:
        locks, tenant, began = handled
        locks.give_way(tenant, began)
