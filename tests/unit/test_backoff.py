"""Retry schedules as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.resilience.backoff import Backoff, retry_step

SCHEDULE = (1, 5, 30, 120, 600)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (7, 128), (8, 256), (9, 300), (10, 300), (10_000, 300)]
)
def test_delays_double_up_to_the_longest(attempt: int, seconds: float) -> None:
    assert Backoff(first=2.0, longest=300.0).delay(attempt, roll=0.5) == seconds


@pytest.mark.parametrize(("roll", "seconds"), [(0.0, 8.0), (0.5, 10.0), (0.75, 11.0)])
def test_jitter_spreads_them_by_a_fifth_each_way(roll: float, seconds: float) -> None:
    assert Backoff(first=10.0, longest=10.0).delay(1, roll=roll) == pytest.approx(seconds)


@given(st.integers(min_value=0, max_value=10**6))
def test_chance_stays_within_the_jitter(attempt: int) -> None:
    assert 0.8 * 2 <= Backoff(first=2.0, longest=300.0).delay(attempt) <= 1.2 * 300


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_time_waited_gives_the_same_schedule_as_the_attempts_that_took_it(factor: float) -> None:
    backoff = Backoff(first=2.0, longest=300.0, factor=factor)
    waited = 0.0
    for attempt in range(1, 20):
        assert backoff.delay_after(waited, roll=0.5) == pytest.approx(backoff.delay(attempt, roll=0.5))
        waited += 2.0 * factor ** (attempt - 1)


@pytest.mark.parametrize(
    ("attempt", "after", "step"),
    [
        (1, 0, 0),
        (2, 0, 1),
        (5, 0, 4),
        (6, 0, None),  # no step is left: it is dead-lettered
        (1, 2, 1),  # asked to wait longer: the next step that is long enough
        (1, 30, 2),
        (2, 1, 1),
        (1, 5000, 4),  # none is long enough: the longest
        (5, 5000, 4),
        (6, 5000, None),
    ],
)
def test_each_failure_moves_one_retry_step_on(attempt: int, after: float, step: int | None) -> None:
    assert retry_step(attempt, after, SCHEDULE) == step


def test_without_a_retry_schedule_nothing_is_tried_again() -> None:
    assert retry_step(1, 0, ()) is None
