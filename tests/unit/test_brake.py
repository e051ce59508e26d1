"""When a worker stops burying or sets a channel apart, what it tries meanwhile, and what lets it go on."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.resilience.circuit_breaker import COME_BACK, MOST_SCOPES, NOBODYS, Brake, Brakes, Scope, several_fail

TRIAL = 60.0


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def braked(outcomes: str, *, share: float = 0.5, window: int = 10, clock: Clock | None = None) -> Brake:
    """A brake that was told these: d is done, x is dead."""
    brake = Brake(share=share, window=window, trial=TRIAL, now=clock or Clock())
    for outcome in outcomes:
        brake.finished(died=outcome == "x")
    return brake


@pytest.mark.parametrize(
    ("outcomes", "on"),
    [
        ("", False),
        ("x" * 9, False),  # too few to judge by
        ("x" * 10, True),
        ("d" * 100, False),
        ("d" * 100 + "x" * 5, False),  # half is not more than half
        ("d" * 100 + "x" * 6, True),
        ("dx" * 50, False),
        ("dxx" * 4, True),
        ("x" * 5 + "d" * 100 + "x" * 5, False),  # long ago does not count
    ],
)
def test_it_engages_when_more_than_its_share_of_the_last_items_died(outcomes: str, on: bool) -> None:
    assert braked(outcomes).on is on


@pytest.mark.parametrize(("share", "deaths", "on"), [(0.1, 1, False), (0.1, 2, True), (0.9, 9, False), (0.9, 10, True)])
def test_the_share_is_a_setting(share: float, deaths: int, on: bool) -> None:
    assert braked("d" * (10 - deaths) + "x" * deaths, share=share).on is on


def test_while_it_is_off_nothing_waits() -> None:
    assert [braked("dd").wait() for _ in range(3)] == [0.0] * 3


def test_while_it_is_on_one_item_is_tried_each_interval() -> None:
    clock = Clock()
    brake = braked("x" * 10, clock=clock)
    assert brake.wait() == TRIAL
    clock.seconds += 59
    assert brake.wait() == pytest.approx(1)
    clock.seconds += 1
    assert brake.wait() == 0
    assert brake.wait() == TRIAL  # the turn is taken
    brake.finished(died=True)
    assert brake.on
    clock.seconds += 1000  # however long nobody asked, it is one turn
    assert (brake.wait(), brake.wait()) == (0, TRIAL)


def test_one_success_releases_it_and_what_was_before_is_forgotten() -> None:
    brake = braked("x" * 10 + "d")
    assert not brake.on
    assert brake.wait() == 0
    for _ in range(9):
        brake.finished(died=True)
    assert not brake.on
    brake.finished(died=True)
    assert brake.on


@given(st.lists(st.booleans(), max_size=200), st.integers(5, 50))
def test_it_never_engages_while_most_items_succeed(deaths: list[bool], window: int) -> None:
    brake = Brake(share=0.5, window=window, trial=TRIAL, now=Clock())
    last: list[bool] = []
    for died in deaths:
        was = brake.on
        brake.finished(died=died)
        last = [*last, died][-window:]
        if brake.on and not was:
            assert sum(last) > window / 2


A, B, C = (Scope(UUID(int=tenant), UUID(int=1)) for tenant in (1, 2, 3))
SECOND = Scope(A.tenant, UUID(int=2))  # of A's


def brakes(clock: Clock | None = None, *, window: int = 10, longest: float = 600.0) -> Brakes:
    return Brakes(share=0.5, window=window, trial=TRIAL, longest=longest, now=clock or Clock())


@pytest.mark.parametrize(
    ("finished", "engages"),
    [
        ("A" * 10, False),  # one tenant's, however many
        ("A" * 9 + "B", False),  # one death of another may be an accident
        ("A" * 8 + "BB", True),
        ("A" * 7 + "Bbb", False),  # most of the others' succeed
        ("AAAAABBBBB", True),
        ("AAAABBccccc"[:10], False),
        ("?" * 10, True),  # nobody's: what can't be read is no tenant's fault
        ("A" * 8 + "??", True),
        ("aaaaaaaaaa", False),
    ],
)
def test_the_worker_stops_only_where_items_of_several_tenants_die(finished: str, engages: bool) -> None:
    """A capital is a death, of the tenant with this letter."""
    outcomes = [(None if letter == "?" else letter.upper(), letter.isupper() or letter == "?") for letter in finished]
    assert several_fail(outcomes, 0.5) is engages


def test_one_channel_is_set_apart_and_its_tenants_others_are_not() -> None:
    some = brakes()
    changes = [some.finished(A, died=True) for _ in range(10)]
    assert (changes, set(some.apart), some.own.on) == ([None] * 9 + ["engaged"], {A}, False)
    for _ in range(10):
        some.finished(SECOND, died=False)
        some.finished(B, died=False)
    assert (set(some.apart), some.own.on) == ({A}, False)


def test_who_is_set_apart_is_tried_once_an_interval_and_let_back_by_one_success() -> None:
    clock = Clock()
    some = brakes(clock)
    for _ in range(10):
        some.finished(A, died=True)
    assert some.postponed(A) == TRIAL
    clock.seconds += TRIAL
    assert (some.postponed(A), some.postponed(A)) == (None, TRIAL)
    assert some.finished(A, died=True) is None
    clock.seconds += TRIAL
    assert some.postponed(A) is None
    assert (some.finished(A, died=False), set(some.apart)) == ("released", set())


def test_the_more_are_set_apart_the_later_they_come_back() -> None:
    some = brakes(longest=200.0)
    for _ in range(10):
        some.finished(A, died=True)
    waits = [some.postponed(A) for _ in range(3 * COME_BACK)]
    assert (waits[0], waits[COME_BACK], waits[-1]) == (TRIAL, 2 * TRIAL, 200.0)


def test_where_all_fail_the_worker_stops_before_anybody_is_set_apart() -> None:
    some = brakes()
    for turn in range(10):
        some.finished((A, B, C)[turn % 3], died=True)
    assert (some.own.on, set(some.apart)) == (True, set())


def test_trials_that_fail_do_not_stop_the_worker() -> None:
    some = brakes()
    for scope in (A, B):
        for _ in range(5):
            some.finished(C, died=False)
        for _ in range(10):
            some.finished(C, died=False)
            some.finished(scope, died=True)
    assert set(some.apart) == {A, B}
    for _ in range(100):
        some.finished(A, died=True)
        some.finished(B, died=True)
    assert not some.own.on


def test_what_is_remembered_of_channels_is_bounded_and_of_healthy_ones_nothing() -> None:
    some = brakes()
    for number in range(2 * MOST_SCOPES):
        some.finished(Scope(UUID(int=number), None), died=True)
        some.own.on = False
    assert len(some._scopes) == MOST_SCOPES
    some = brakes()
    some.finished(A, died=True)
    for _ in range(10):
        some.finished(A, died=False)
    some.finished(NOBODYS, died=True)
    assert not some._scopes
