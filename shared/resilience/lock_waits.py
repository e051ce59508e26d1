"""Which tenants' items lately waited for a lock in vain, and when the next one of theirs is tried. No I/O.

Whoever may write a row by SQL may lock it, for as long as they like. Their own items wait for it, and nobody else's.
Nor do many of them wait at once: each would hold one of the process's few connections, which others' items need.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.resilience.backoff import Backoff

PAUSE: Final = Backoff(first=1.0, longest=30.0, jitter=0.0)  # seconds without a try, longer after each one in vain
REMEMBERED: Final = 60.0  # seconds after the last lock, during which a tenant's items are handled by themselves
MOST_TENANTS: Final = 10_000  # that one process remembers; the oldest are forgotten first


class Locked(Exception):
    """Its tenant holds rows that this item needs: it waits for `after` seconds, and no attempt is counted."""

    def __init__(self, after: float) -> None:
        super().__init__("its tenant holds a lock")
        self.after = after


@dataclass(slots=True)
class _Waits:
    in_vain: int  # tries, one after the other
    until: float  # no try before
    forgotten_at: float
    last: float  # when one waited in vain


class LockWaits:
    """The tenants of whom one worker knows that they hold locks. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tenants: dict[UUID, _Waits] = {}

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __contains__(self, tenant: UUID | None) -> bool:
        """Whether an item of this tenant's waited in vain within the last minute."""
        if tenant is None or (waits := self._tenants.get(tenant)) is None:
            return False
        if waits.forgotten_at > self._now():
            return True
        del self._tenants[tenant]
        return False

    def in_vain(self, tenant: UUID) -> float:
        """An item of this tenant's waited in vain; returns the seconds for which the next ones are not tried."""
        now = self._now()
        known = self._tenants.pop(tenant) if tenant in self else _Waits(0, 0.0, 0.0, 0.0)
        known.last = now
        if known.until <= now:  # else it was under way already when another one waited in vain
            pause = PAUSE.delay(known.in_vain + 1)
            known = _Waits(known.in_vain + 1, now + pause, now + pause + REMEMBERED, now)
        if len(self._tenants) >= MOST_TENANTS:
            del self._tenants[next(iter(self._tenants))]
        self._tenants[tenant] = known
        return known.until - now

    def went_through(self, tenant: UUID | None) -> None:
        """An item of this tenant's was handled: the next ones are tried at once, by themselves for a while yet."""
        if tenant is not None and (waits := self._tenants.get(tenant)) is not None:
            waits.until = 0.0

    def wait(self, tenant: UUID | None) -> float:
        """Seconds until an item of this tenant's may be tried; 0 takes the turn, so that one is tried at a time."""
        if tenant is None or (waits := self._tenants.get(tenant)) is None or not waits.until:
            return 0.0
        remaining = waits.until - self._now()
        if remaining <= 0:
            waits.until = self._now() + PAUSE.first
        return max(remaining, 0.0)

    @contextmanager
    def handling(self, tenant: UUID | None) -> Iterator[None]:
        """In here an item of this tenant's is handled, and `give_way` asks for its sake."""
        token = _HANDLED.set(None if tenant is None else (self, tenant, self._now()))
        try:
            yield
        finally:
            _HANDLED.reset(token)

    def give_way(self, tenant: UUID, began: float) -> None:
        """Raise Locked where another item of this tenant's waited in vain after this one began."""
        if (waits := self._tenants.get(tenant)) is not None and waits.last > began:
            raise Locked(max(waits.until - self._now(), PAUSE.first))


_HANDLED: Final = ContextVar[tuple[LockWaits, UUID, float] | None]("the item at hand", default=None)


def give_way() -> None:
    """To be called where the item at hand gets a connection. Raises Locked where it would only wait as well."""
    if (handled := _HANDLED.get()) is not None:
        locks, tenant, began = handled
        locks.give_way(tenant, began)
