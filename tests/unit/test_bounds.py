"""Who gets a place among the webhooks in hand, and who loses it: rules without I/O."""

from ipaddress import ip_network

import pytest

from ingress.bounds import GRACE, LEAST, PACE, SPARE, Bounds, Limits, OverBoundError, Place
from ingress.sources import Sources

KIB = 1024
LIMITS = Limits(everything=1000 * KIB, endpoint=400 * KIB, address=600 * KIB)
LATER = GRACE + 1.0  # seconds


class Door:
    """Bounds, and who had to give up."""

    def __init__(self) -> None:
        self.bounds = Bounds(LIMITS)
        self.gave_up: list[str] = []

    def expect(self, name: str, size: int, *, endpoint: int = 1, address: str | None = None, now: float = 0.0) -> Place:
        return self.bounds.expect(endpoint, size, address, now, lambda: self.gave_up.append(name))

    def refuses(self, size: int, **more: object) -> bool:
        try:
            self.expect("refused", size, **more)  # type: ignore[arg-type]  # as `expect` has them
        except OverBoundError:
            return True
        return False


@pytest.mark.parametrize(
    ("filled", "asking", "refused"),
    [
        ([(1, "a", 400)], (1, "b", 1), True),  # its endpoint's
        ([(1, "a", 400)], (2, "b", 400), False),
        ([(1, "a", 300), (2, "a", 300)], (3, "a", 1), True),  # its address's
        ([(1, "a", 300), (2, "a", 300)], (3, "b", 400), False),
        ([(1, "a", 400), (2, "b", 400)], (3, "c", 200), False),
        ([(1, "a", 400), (2, "b", 400)], (3, "c", 201), True),  # all's
        ([(1, None, 400), (2, None, 400)], (3, None, 200), False),  # nobody's address is nobody's bound
    ],
)
def test_who_is_over_a_bound_is_refused_at_once(
    filled: list[tuple[int, str | None, int]], asking: tuple[int, str | None, int], refused: bool
) -> None:
    door = Door()
    for endpoint, address, size in filled:
        door.expect("first", size * KIB, endpoint=endpoint, address=address)
    endpoint, address, size = asking
    assert door.refuses(size * KIB, endpoint=endpoint, address=address) is refused
    assert door.gave_up == []  # nobody was slow


def test_a_place_is_free_again_once_its_body_is_no_longer_in_hand() -> None:
    door = Door()
    place = door.expect("a", 400 * KIB)
    assert door.refuses(1)
    door.bounds.leave(place)
    assert door.bounds.used == 0
    assert not door.refuses(400 * KIB)


def test_a_slow_body_loses_its_place_to_another_one_and_a_fast_one_does_not() -> None:
    door = Door()
    fast, slow = door.expect("fast", 200 * KIB), door.expect("slow", 200 * KIB)
    door.bounds.arrived(fast, int(PACE * LATER), LATER)
    door.bounds.arrived(slow, int(PACE * LATER) - 1, LATER)
    door.expect("next", 200 * KIB, now=LATER)
    assert door.gave_up == ["slow"]
    assert door.refuses(1, now=LATER)
    door.bounds.leave(slow)  # its reader comes to know
    assert door.bounds.used == 400 * KIB


def test_a_body_that_came_fast_and_then_stalls_loses_its_place_too() -> None:
    door = Door()
    stalls = door.expect("stalls", 400 * KIB)
    door.bounds.arrived(stalls, 399 * KIB, 0.1)
    assert door.refuses(1, now=0.1 + GRACE)
    door.expect("next", 200 * KIB, now=LATER)
    assert door.gave_up == ["stalls"]


def test_nobody_is_slow_within_the_first_second_or_under_another_bound() -> None:
    door = Door()
    door.expect("slow elsewhere", 400 * KIB, endpoint=2)
    door.expect("new", 400 * KIB, now=LATER - GRACE)
    assert door.refuses(1, now=LATER)
    assert door.gave_up == []


def test_what_has_arrived_keeps_its_place_however_long_it_waits() -> None:
    door = Door()
    place = door.expect("waits", 400 * KIB)
    door.bounds.whole(place)
    assert door.refuses(1, now=100.0)


def test_small_ones_count_and_a_crowd_that_stalls_keeps_no_webhook_out_that_is_here() -> None:
    door = Door()
    crowd = 0
    while not door.refuses(1):
        crowd += 1
    assert crowd == LIMITS.endpoint // LEAST
    here = [door.bounds.enter(1, 1 * KIB, 0.0) for _ in range(LIMITS.endpoint // SPARE // KIB)]
    with pytest.raises(OverBoundError):
        door.bounds.enter(1, 1 * KIB, 0.0)
    for place in here:
        door.bounds.leave(place)
    door.bounds.leave(door.bounds.enter(1, 1 * KIB, 0.0))


def test_a_body_that_does_not_say_its_size_counts_as_it_grows() -> None:
    door = Door()
    place = door.expect("chunked", 0)
    assert door.bounds.used == LEAST
    door.bounds.arrived(place, 100 * KIB, 0.5)
    assert door.bounds.used == 100 * KIB
    with pytest.raises(OverBoundError):
        door.bounds.arrived(place, 401 * KIB, 0.5)
    door.bounds.leave(place)
    assert door.bounds.used == 0


def test_the_largest_body_that_is_taken_has_a_place() -> None:
    assert Limits.of(1, 10**7).endpoint >= 10**7
    assert Limits.of(10**8, 10**7) == Limits(10**8, 10**8 // 2, 10**8 * 2 // 3)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),  # a stranger's word
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "1.2.3.4, 203.0.113.9, 10.1.2.3", "203.0.113.9"),  # two proxies of ours
        ("127.0.0.1", None, None),
        ("127.0.0.1", " , ", None),
        ("10.9.9.9", "not an address", "not an address"),
        (None, "203.0.113.9", None),
    ],
)
def test_whose_address_it_is_behind_a_proxy(peer: str | None, forwarded_for: str | None, address: str | None) -> None:
    assert Sources([ip_network("127.0.0.1"), ip_network("10.0.0.0/8")]).address(peer, forwarded_for) == address
