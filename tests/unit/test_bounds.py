"""Which body gets a place among the webhooks in hand, and which one loses it: rules without I/O."""

from contextlib import suppress
from ipaddress import ip_network

import pytest

from shared.http.bounds import GRACE, LEAST, PACE, SPARE, Bounds, Limits, OverBoundError, Place
from shared.http.sources import Sources, network

KIB = 1024
LIMITS = Limits(everything=1000 * KIB, endpoint=400 * KIB, address=600 * KIB)
LATER = GRACE + 1.0  # seconds


class Door:
    """Bounds, and who had to give up."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.bounds = Bounds(limits)
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
    ("filled", "incoming", "refused"),
    [
        ([(1, "a", 400)], (1, "b", 1), True),  # its endpoint's
        ([(1, "a", 400)], (2, "b", 400), False),
        ([(1, "a", 300), (2, "a", 300)], (3, "a", 1), True),  # its address's
        ([(1, "a", 300), (2, "a", 300)], (3, "b", 400), False),
        ([(1, "a", 400), (2, "b", 400)], (3, "c", 200), False),
        ([(1, "a", 400), (2, "b", 400)], (3, "c", 201), True),  # all's
        ([(1, None, 400), (2, None, 400)], (3, None, 200), False),  # without an address there is no bound of one
    ],
)
def test_who_is_over_a_bound_is_refused_at_once(
    filled: list[tuple[int, str | None, int]], incoming: tuple[int, str | None, int], refused: bool
) -> None:
    door = Door()
    for endpoint, address, size in filled:
        door.expect("first", size * KIB, endpoint=endpoint, address=address)
    endpoint, address, size = incoming
    assert door.refuses(size * KIB, endpoint=endpoint, address=address) is refused
    assert door.gave_up == []  # none was slow


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


@pytest.mark.parametrize(
    ("filled", "incoming", "loses"),
    [
        # all bytes are in hand: (endpoint, address, KiB) in the order in which they began
        ([(1, "a", 100)] * 4 + [(2, "b", 150)] * 4, (3, "c", 200), ["6 of 2", "7 of 2"]),  # 2 holds most: its latest
        ([(1, "a", 400), (2, "b", 300), (2, "b", 300)], (3, "c", 300), ["2 of 2"]),  # 1 has one body only
        ([(1, "a", 400), (2, "b", 300), (2, "b", 300)], (3, "c", 301), None),  # 2 would have less than 3 then
        ([(1, "a", 400), (2, "b", 600)], (3, "c", 1), None),  # no endpoint loses its only body
        ([(1, "a", 100)] * 4 + [(2, "b", 100)] * 6, (1, "a", 100), ["9 of 2"]),
        ([(1, "a", 100)] * 5 + [(2, "b", 100)] * 5, (1, "a", 100), None),  # equals stay so
        ([(1, "a", 100)] * 5 + [(2, "b", 100)] * 5, (3, None, 100), ["9 of 2"]),  # an address has no part in it
        # an address is full: its endpoints share it
        ([(1, "a", 100)] * 3 + [(2, "a", 100)] * 4, (3, "a", 100), ["6 of 2"]),
        ([(1, "a", 100)] * 3 + [(2, "a", 100)] * 4, (2, "a", 100), None),
        ([(endpoint, "a", 70) for endpoint in range(10)], (10, "a", 70), None),
        # an endpoint is full: the addresses share it
        ([(1, "a", 100)] * 2 + [(1, "b", 100)] * 4, (1, "c", 100), ["5 of 1"]),
        ([(1, "a", 100)] * 2 + [(1, "b", 100)] * 4, (1, "b", 100), None),
        ([(1, str(number), 60) for number in range(10)], (1, "c", 60), None),
        ([(1, "a", 100)] * 6, (1, None, 100), None),  # without an address there is no share
        ([(1, None, 100)] * 6, (1, "a", 100), None),
    ],
)
def test_where_a_bound_is_full_who_holds_most_gives_up_a_place_to_who_holds_less(
    filled: list[tuple[int, str | None, int]], incoming: tuple[int, str | None, int], loses: list[str] | None
) -> None:
    door = Door(Limits(everything=1000 * KIB, endpoint=600 * KIB, address=700 * KIB))
    for number, (endpoint, address, size) in enumerate(filled):
        door.expect(f"{number} of {endpoint}", size * KIB, endpoint=endpoint, address=address)
    used = door.bounds.used
    endpoint, address, size = incoming
    assert door.refuses(size * KIB, endpoint=endpoint, address=address) is (loses is None)
    assert sorted(door.gave_up) == sorted(loses or [])
    if loses is None:
        assert door.bounds.used == used


def test_two_endpoints_that_take_all_and_never_are_slow_end_with_a_third_each() -> None:
    door = Door(Limits(everything=900 * KIB, endpoint=450 * KIB, address=900 * KIB))
    held: dict[int, list[Place]] = {1: [], 2: [], 3: []}
    for _ in range(100):
        for endpoint, places in held.items():
            with suppress(OverBoundError):
                places.append(door.expect("", 20 * KIB, endpoint=endpoint, address=f"{endpoint}"))
    assert [sum(place.size for place in places) for places in held.values()] == [300 * KIB] * 3


def test_nobody_loses_a_place_to_one_who_is_refused_under_another_bound() -> None:
    door = Door(Limits(everything=1000 * KIB, endpoint=400 * KIB, address=600 * KIB))
    for _ in range(4):
        door.expect("a", 100 * KIB, endpoint=1, address="a")
    door.bounds.whole(door.expect("b", 300 * KIB, endpoint=2, address="b"))
    door.bounds.whole(door.expect("c", 300 * KIB, endpoint=3, address="b"))
    assert door.refuses(100 * KIB, endpoint=1, address="b")
    assert door.gave_up == []
    assert door.bounds.used == 1000 * KIB


def test_a_slow_body_keeps_its_place_where_who_wants_it_holds_more() -> None:
    door = Door()
    door.expect("quiet and slow", 200 * KIB, endpoint=3)
    for endpoint in (1, 2):
        door.bounds.whole(door.expect("flood", 390 * KIB, endpoint=endpoint))
    assert door.refuses(20 * KIB + 1, endpoint=1, now=LATER)
    assert door.gave_up == []
    door.expect("quieter", 200 * KIB, endpoint=4, now=LATER)
    assert door.gave_up == ["quiet and slow"]


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


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, None),
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("x:y", "x:y"),
    ],
)
def test_what_of_an_address_its_holder_cannot_change(address: str | None, expected: str | None) -> None:
    assert network(address) == expected
