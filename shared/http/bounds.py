"""Bounds the bytes of the bodies being received: per endpoint, per address, and in all. No I/O.

All bodies in hand count: small ones, those that still arrive, and those that wait to be durable, signed or not. A body
over a bound is refused at once, unless an arriving body under the same bound loses its place to it:

- a slow body loses it to any body whose endpoint holds no more bytes than its own;
- any other body loses it if its owner then still holds no fewer bytes than the new body's owner. Owners are endpoints;
  under the bound of one endpoint they are addresses.

So an endpoint with few bytes in hand can always deliver, and its only body is safe. All endpoints of a tenant count as
one, because a tenant can make any number of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

LEAST: Final = 16 * 1024  # bytes that any unfinished request counts: it takes about so much of our memory
SPARE: Final = 4  # a complete body may exceed a bound by one part in so many: stalled ones don't keep it out
GRACE: Final = 1.0  # seconds; a body is slow if nothing of it arrives for so long, or if it arrives slower than:
PACE: Final = 64 * 1024  # bytes a second

Scope = int | str  # has a bound: an endpoint's number, an address, or everything
Owner = Scope | tuple[int, str]  # a body counts against it; the pair is an address that sends to an endpoint
Loss = Literal["slow", "crowded"]  # why a body lost its place, as its refusal names it
_ALL: Final = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in bytes."""

    everything: int
    endpoint: int
    address: int

    @classmethod
    def of(cls, everything: int, largest: int) -> "Limits":
        """Half of everything for an endpoint, two thirds for an address; enough for one body of `largest` bytes."""
        everything = max(everything, 2 * max(largest, LEAST))
        return cls(everything, everything // 2, everything * 2 // 3)

    def of_scope(self, scope: Scope) -> int:
        """The bound of one scope."""
        if scope == _ALL:
            return self.everything
        return self.endpoint if isinstance(scope, int) else self.address


class OverBoundError(Exception):
    """The body is over a bound, and no other body has to lose its place."""


class Place:
    """The place of one body in hand."""

    __slots__ = ("arrived", "began", "endpoint", "give_up", "lost", "moved", "pair", "scopes", "size")

    def __init__(self, endpoint: int, address: str | None, began: float, give_up: Callable[[], None] | None) -> None:
        """`address` is None where it is unknown; `began` is by the monotonic clock."""
        self.endpoint = endpoint
        self.pair = (endpoint, address) if address else None
        self.scopes: tuple[Scope, ...] = (endpoint, _ALL, address) if address else (endpoint, _ALL)
        self.size = 0  # bytes that it counts
        self.began = began
        self.moved = began  # when something of it last arrived
        self.arrived = 0  # bytes
        self.give_up = give_up  # ends the reading of an arriving body
        self.lost: Loss | None = None  # why it lost its place

    def owner(self, scope: Scope) -> Owner | None:
        """The owner against which it counts within a scope; None where it is unknown."""
        return self.endpoint if scope == _ALL else self.pair

    def is_slow(self, now: float) -> bool:
        """Whether its grace is over, and it arrives too slowly."""
        lasted = now - self.began
        return lasted > GRACE and (now - self.moved > GRACE or self.arrived < PACE * lasted)


class Bounds:
    """All bodies in hand. Belongs to one event loop; each `now` is by its monotonic clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._used: dict[Owner, int] = {_ALL: 0}  # of scopes and of owners within them
        self._arriving: dict[Place, None] = {}  # in the order in which they began

    @property
    def used(self) -> int:
        """Bytes in hand in all."""
        return self._used[_ALL]

    def enter(self, endpoint: int, size: int, now: float) -> Place:
        """A place for a complete body of `size` bytes. Raises OverBoundError."""
        place = Place(endpoint, None, now, None)
        self._take(place, size, now, spare=True)
        return place

    def expect(self, endpoint: int, size: int, address: str | None, now: float, give_up: Callable[[], None]) -> Place:
        """A place for an arriving body of `size` bytes. Raises OverBoundError.

        `address` is None where the sender is unknown. `give_up` is called when the body loses its place.
        """
        place = Place(endpoint, address, now, give_up)
        self._take(place, max(size, LEAST), now)
        self._arriving[place] = None
        return place

    def arrived(self, place: Place, size: int, now: float) -> None:
        """Note how much has arrived; bytes beyond the announced size count too. Raises OverBoundError."""
        place.arrived, place.moved = size, now
        if place.lost is None and size > place.size:
            self._take(place, max(size, 2 * place.size) - place.size, now)

    def whole(self, place: Place) -> None:
        """The body is complete, and can't lose its place any more."""
        self._arriving.pop(place, None)

    def leave(self, place: Place) -> None:
        """Release the place."""
        self._arriving.pop(place, None)
        self._count(place, -place.size)

    def _take(self, place: Place, more: int, now: float, *, spare: bool = False) -> None:
        losers: dict[Place, int] = {}  # with the bytes of each
        for scope in place.scopes:
            bound = self._limits.of_scope(scope)
            if spare:
                bound += bound // SPARE
            while self._used.get(scope, 0) + more > bound:
                loser = self._slow(scope, place, now) or self._of_the_largest(scope, place, more, bound)
                if loser is None:
                    for other, size in losers.items():  # no body loses its place for a refused one
                        other.lost = None
                        self._count(other, size)
                    raise OverBoundError
                losers[loser] = loser.size
                self._count(loser, -loser.size)
        for loser in losers:
            self._arriving.pop(loser)
            if loser.give_up is not None:
                loser.give_up()
        self._count(place, more)

    def _slow(self, scope: Scope, place: Place, now: float) -> Place | None:
        """The body that began first among slow ones whose endpoint holds no fewer bytes than the new body's."""
        mine = self._used.get(place.endpoint, 0)
        for slow in self._arriving:
            if now - slow.began <= GRACE:
                break
            if _may_lose(slow, scope, place) and slow.is_slow(now) and self._used[slow.endpoint] >= mine:
                slow.lost = "slow"
                return slow
        return None

    def _of_the_largest(self, scope: Scope, place: Place, more: int, bound: int) -> Place | None:
        """The latest body of the owner with the most bytes, if that owner then still has no fewer than the new."""
        owner = place.owner(scope)
        if owner is None or (mine := self._used.get(owner, 0) + more) > bound // 2:
            return None  # no other owner can hold more, as nearly always in a flood
        loser, most = None, 0
        for other in reversed(self._arriving):
            theirs = self._used[whose] if _may_lose(other, scope, place) and (whose := other.owner(scope)) else 0
            if theirs > most and theirs - other.size >= mine:
                loser, most = other, theirs
        if loser is not None:
            loser.lost = "crowded"
        return loser

    def _count(self, place: Place, more: int) -> None:
        place.size += more
        used = self._used
        for owner in place.scopes if place.pair is None else (*place.scopes, place.pair):
            left = used.get(owner, 0) + more
            if left or owner == _ALL:
                used[owner] = left
            else:
                used.pop(owner, None)


def _may_lose(other: Place, scope: Scope, place: Place) -> bool:
    return other is not place and other.lost is None and scope in other.scopes
