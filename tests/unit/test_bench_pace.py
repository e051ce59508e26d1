"""How a pace is measured: the busiest second, wherever it begins, and the share of the rate that was used."""

import pytest

from tests.bench.pace import Pace, pace


@pytest.mark.parametrize(
    ("times", "rate", "measured"),
    [
        ([], 10, Pace(0, 0, 0.0)),
        ([5.0], 10, Pace(1, 1, 0.0)),
        ([n / 8 for n in range(31)], 8, Pace(31, 8, 1.0)),
        ([n / 8 for n in reversed(range(31))], 8, Pace(31, 8, 1.0)),
        ([n / 4 for n in range(11)], 8, Pace(11, 4, 0.5)),
        ([0.0, 0.9, 0.95, 1.0, 1.85], 10, Pace(5, 4, 4 / 18.5)),  # across the full second
        ([0.0, 1.0, 2.0], 1, Pace(3, 1, 1.0)),  # a second has no end of its own
        ([3.0, 3.0, 3.0], 1, Pace(3, 3, 2.0)),
    ],
)
def test_a_pace_is_measured(times: list[float], rate: float, measured: Pace) -> None:
    found = pace(times, rate)
    assert (found.calls, found.most) == (measured.calls, measured.most)
    assert found.used == pytest.approx(measured.used)


@pytest.mark.parametrize(("rate", "most", "keeps"), [(10, 11, True), (10, 12, False), (80, 84, True), (80, 85, False)])
def test_a_second_may_have_a_twentieth_or_one_too_much(rate: float, most: int, keeps: bool) -> None:
    assert Pace(100, most, 1.0).keeps(rate) is keeps
