"""When a worker stops burying, what it tries meanwhile, and what lets it go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.brake import Brake

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
