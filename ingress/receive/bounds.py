"""How many bytes of webhooks may be in hand at once: of an endpoint, from an address, and in all. No I/O.

Whatever is in hand counts: what is small, what still arrives, what waits to be made durable, signed or not. Who is
over a bound is refused at once, unless a body that still arrives under the same bound has to give up its place:

- a slow one gives it up to any body whose endpoint holds no more than its own;
- any other one gives it up where its owner holds so much that it still holds no less than the newcomer's owner
  afterwards. Owners are endpoints; under the bound of one endpoint they are addresses.

So an endpoint with little in hand gets its webhooks in however many bytes others hold, and its only body is safe. All
endpoints of a tenant are one here: it can make as many as it likes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

LEAST: Final = 16 * 1024  # bytes that an unfinished request counts, however small its body: it holds so much of ours
SPARE: Final = 4  # a body that is here may go over a bound by one part in so many: who stalls keeps nobody else out
GRACE: Final = 1.0  # seconds; a body is slow of which nothing comes for so long, or that by then came slower than:
PACE: Final = 64 * 1024  # bytes a second

Scope = int | str  # what has a bound: an endpoint's number, an address, or everything
Owner = Scope | tuple[int, str]  # on whose account a body counts; the pair is what one address sends to one endpoint
Loss = Literal["slow", "crowded"]  # why a body lost its place, as REFUSALS calls it
_ALL: Final = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes."""

    everything: int
    endpoint: int
    address: int

    @classmethod
    def of(cls, everything: int, largest: int) -> "Limits":
        """Half of all for an endpoint, two thirds for an address; so much that the `largest` body has a place."""
        everything = max(everything, 2 * max(largest, LEAST))
        return cls(everything, everything // 2, everything * 2 // 3)

    def of_scope(self, scope: Scope) -> int:
        """The bound of one scope."""
        if scope == _ALL:
            return self.everything
        return self.endpoint if isinstance(scope, int) else self.address


class OverBoundError(Exception):
    """There is no room, and nobody whose place it could be."""


class Place:
    """What one body in hand takes."""

    __slots__ = ("arrived", "began", "endpoint", "give_up", "lost", "moved", "pair", "scopes", "size")

    def __init__(self, endpoint: int, address: str | None, began: float, give_up: Callable[[], None] | None) -> None:
        """`address` is None where nobody knows it; `began`: by the monotonic clock."""
        self.endpoint = endpoint
        self.pair = (endpoint, address) if address else None
        self.scopes: tuple[Scope, ...] = (endpoint, _ALL, address) if address else (endpoint, _ALL)  # what bounds it
        self.size = 0  # bytes that it counts
        self.began = began
        self.moved = began  # when something of it last arrived
        self.arrived = 0  # bytes
        self.give_up = give_up  # ends the reading of one that still arrives
        self.lost: Loss | None = None  # why its place went to another one

    def owner(self, scope: Scope) -> Owner | None:
        """On whose account it counts within one scope; None where nobody knows."""
        return self.endpoint if scope == _ALL else self.pair

    def is_slow(self, now: float) -> bool:
        """Whether it has had its time, and came too slowly."""
        lasted = now - self.began
        return lasted > GRACE and (now - self.moved > GRACE or self.arrived < PACE * lasted)


class Bounds:
    """What is in hand. Belongs to one event loop; every `now` is by its monotonic clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._used: dict[Owner, int] = {_ALL: 0}  # of scopes and of owners within them
        self._arriving: dict[Place, None] = {}  # in the order in which they began

    @property
    def used(self) -> int:
        """Bytes in hand, of all."""
        return self._used[_ALL]

    def enter(self, endpoint: int, size: int, now: float) -> Place:
        """A place for a body of `size` bytes that is here. Raises OverBoundError."""
        place = Place(endpoint, None, now, None)
        self._take(place, size, now, spare=True)
        return place

    def expect(self, endpoint: int, size: int, address: str | None, now: float, give_up: Callable[[], None]) -> Place:
        """A place for a body of `size` bytes that is on its way. Raises OverBoundError.

        `address` is None where nobody knows who sends it. `give_up` is called where its place goes to another one.
        """
        place = Place(endpoint, address, now, give_up)
        self._take(place, max(size, LEAST), now)
        self._arriving[place] = None
        return place

    def arrived(self, place: Place, size: int, now: float) -> None:
        """So much of it is here by now; more than was announced counts as well. Raises OverBoundError."""
        place.arrived, place.moved = size, now
        if place.lost is None and size > place.size:
            self._take(place, max(size, 2 * place.size) - place.size, now)

    def whole(self, place: Place) -> None:
        """All of it is here: nobody else gets its place any more."""
        self._arriving.pop(place, None)

    def leave(self, place: Place) -> None:
        """It is no longer in hand."""
        self._arriving.pop(place, None)
        self._count(place, -place.size)

    def _take(self, place: Place, more: int, now: float, *, spare: bool = False) -> None:
        losers: dict[Place, int] = {}  # and the bytes that each had
        for scope in place.scopes:
            bound = self._limits.of_scope(scope)
            if spare:
                bound += bound // SPARE
            while self._used.get(scope, 0) + more > bound:
                loser = self._slow(scope, place, now) or self._of_the_largest(scope, place, more, bound)
                if loser is None:
                    for other, size in losers.items():  # nobody loses a place for one who is refused
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
        """The one that has been slow for longest, of those whose endpoint holds no less than the newcomer's."""
        mine = self._used.get(place.endpoint, 0)
        for slow in self._arriving:
            if now - slow.began <= GRACE:
                break
            if _may_lose(slow, scope, place) and slow.is_slow(now) and self._used[slow.endpoint] >= mine:
                slow.lost = "slow"
                return slow
        return None

    def _of_the_largest(self, scope: Scope, place: Place, more: int, bound: int) -> Place | None:
        """The latest of the owner that holds most, if that one still holds no less than the newcomer's then."""
        owner = place.owner(scope)
        if owner is None or (mine := self._used.get(owner, 0) + more) > bound // 2:
            return None  # nobody can hold more: no search, as nearly always in a flood
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
