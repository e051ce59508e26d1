"""How many bytes of webhooks may be in hand at once: of an endpoint, from an address, and in all. No I/O.

Whatever is in hand counts: what is small, what still arrives, what waits to be made durable, signed or not. Who is
over a bound is refused at once, unless somebody under the same bound arrives so slowly that the place goes to them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LEAST: Final = 16 * 1024  # bytes that an unfinished request counts, however small its body: it holds so much of ours
SPARE: Final = 4  # a body that is here may go over a bound by one part in so many: who stalls keeps nobody else out
GRACE: Final = 1.0  # seconds; a body is slow of which nothing comes for so long, or that by then came slower than:
PACE: Final = 64 * 1024  # bytes a second

Scope = int | str  # an endpoint's number, or an address
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


class OverBoundError(Exception):
    """There is no room, and nobody slow whose place it could be."""


class Place:
    """What one body in hand takes."""

    __slots__ = ("arrived", "began", "give_up", "lost", "moved", "scopes", "size")

    def __init__(
        self, scopes: tuple[tuple[Scope, int], ...], size: int, began: float, give_up: Callable[[], None] | None
    ) -> None:
        """`scopes`: what it counts for, each with its bound in bytes; `began`: by the monotonic clock."""
        self.scopes = scopes
        self.size = size  # bytes that it counts
        self.began = began
        self.moved = began  # when something of it last arrived
        self.arrived = 0  # bytes
        self.give_up = give_up  # ends the reading of one that still arrives
        self.lost = False  # to another one

    def is_slow(self, now: float) -> bool:
        """Whether another one may have its place."""
        lasted = now - self.began
        return lasted > GRACE and (now - self.moved > GRACE or self.arrived < PACE * lasted)


class Bounds:
    """What is in hand. Belongs to one event loop; every `now` is by its monotonic clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._used: dict[Scope, int] = {_ALL: 0}
        self._arriving: dict[Place, None] = {}  # in the order in which they began

    @property
    def used(self) -> int:
        """Bytes in hand, of all."""
        return self._used[_ALL]

    def enter(self, endpoint: int, size: int, now: float) -> Place:
        """A place for a body of `size` bytes that is here. Raises OverBoundError."""
        scopes = (endpoint, self._limits.endpoint), (_ALL, self._limits.everything)
        place = Place(scopes, 0, now, None)
        self._take(place, size, now, spare=True)
        return place

    def expect(self, endpoint: int, size: int, address: str | None, now: float, give_up: Callable[[], None]) -> Place:
        """A place for a body of `size` bytes that is on its way. Raises OverBoundError.

        `address` is None where nobody knows who sends it. `give_up` is called where its place goes to another one.
        """
        scopes: tuple[tuple[Scope, int], ...] = (endpoint, self._limits.endpoint), (_ALL, self._limits.everything)
        if address:
            scopes = *scopes, (address, self._limits.address)
        place = Place(scopes, 0, now, give_up)
        self._take(place, max(size, LEAST), now)
        self._arriving[place] = None
        return place

    def arrived(self, place: Place, size: int, now: float) -> None:
        """So much of it is here by now; more than was announced counts as well. Raises OverBoundError."""
        place.arrived, place.moved = size, now
        if not place.lost and size > place.size:
            self._take(place, max(size, 2 * place.size) - place.size, now)

    def whole(self, place: Place) -> None:
        """All of it is here: nobody else gets its place any more."""
        self._arriving.pop(place, None)

    def leave(self, place: Place) -> None:
        """It is no longer in hand."""
        self._arriving.pop(place, None)
        self._count(place, -place.size)

    def _take(self, place: Place, more: int, now: float, *, spare: bool = False) -> None:
        for scope, bound in place.scopes:
            if spare:
                bound += bound // SPARE
            while self._used.get(scope, 0) + more > bound:
                self._take_from_slow(scope, place, now)
        self._count(place, more)

    def _take_from_slow(self, scope: Scope, place: Place, now: float) -> None:
        """Give up the body that has been slow for longest of those that count for the same. Raises OverBoundError."""
        for slow in self._arriving:
            if now - slow.began <= GRACE:
                break
            if slow is not place and slow.is_slow(now) and any(scope == one for one, _ in slow.scopes):
                self.leave(slow)
                slow.lost = True
                if slow.give_up is not None:
                    slow.give_up()
                return
        raise OverBoundError

    def _count(self, place: Place, more: int) -> None:
        place.size += more
        used = self._used
        for scope, _ in place.scopes:
            left = used.get(scope, 0) + more
            if left or scope == _ALL:
                used[scope] = left
            else:
                used.pop(scope, None)
