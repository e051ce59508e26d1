"""Which of two templates a campaign goes on with, as tables, and how often chance alone decides."""

import random
from uuid import UUID

import pytest

from shared.domain.campaigns import comparison
from shared.domain.campaigns.comparison import Trial


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (Trial(200, 20), Trial(200, 50), 1),
        (Trial(200, 50), Trial(200, 20), 0),
        (Trial(200, 20), Trial(200, 21), None),
        (Trial(200, 0), Trial(200, 0), None),  # no answers at all
        (Trial(200, 200), Trial(200, 200), None),
        (Trial(0, 0), Trial(200, 50), None),
        (Trial(1_000_000, 100_000), Trial(1_000_000, 101_500), 1),
    ],
)
def test_the_winner(first: Trial, second: Trial, winner: int | None) -> None:
    assert comparison.winner(first, second, 0.95, 1) == winner


def test_each_look_more_asks_for_a_plainer_difference() -> None:
    first, second = Trial(1000, 100), Trial(1000, 130)  # z = 2.10
    assert comparison.winner(first, second, 0.95, 1) == 1
    assert comparison.winner(first, second, 0.95, 2) is None


def test_the_figures_of_a_known_test() -> None:
    # z = 1.96 at 5 % and 2.576 at 1 %: 200 against 236 of 1000 each is z = 1.948, against 237 it is 2.000.
    assert comparison.winner(Trial(1000, 200), Trial(1000, 236), 0.95, 1) is None
    assert comparison.winner(Trial(1000, 200), Trial(1000, 237), 0.95, 1) == 1
    assert comparison.winner(Trial(1000, 200), Trial(1000, 237), 0.99, 1) is None


@pytest.mark.parametrize(
    ("recipients", "share", "looks"),
    [(100, 0.5, 1), (400, 0.5, 1), (799, 0.5, 1), (800, 0.5, 2), (1600, 0.5, 3), (1_000_000, 0.5, 12), (8000, 0.1, 3)],
)
def test_how_many_looks(recipients: int, share: float, looks: int) -> None:
    assert comparison.looks(recipients, share, 200) == looks


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [(0, 0, 0), (199, 900, 0), (200, 900, 1), (399, 900, 1), (400, 900, 2), (900, 800, 3)],
)
def test_a_look_comes_when_the_smaller_side_has_doubled(first: int, second: int, number: int) -> None:
    assert comparison.look_number(Trial(first, 0), Trial(second, 0), 200) == number


def campaign_decides(rates: tuple[float, float], recipients: int, draw: random.Random) -> int | None:
    """The winner of a campaign with these true rates, that is looked at whenever a look is allowed."""
    most, number = comparison.looks(recipients, 0.5, 200), 0
    outcomes, successes = [0, 0], [0, 0]
    for place in range(recipients):
        which = place % 2
        outcomes[which] += 1
        successes[which] += draw.random() < rates[which]
        trials = [Trial(outcomes[one], successes[one]) for one in (0, 1)]
        if (reached := comparison.look_number(trials[0], trials[1], 200)) > number:
            number = reached
            if (found := comparison.winner(trials[0], trials[1], 0.95, most)) is not None:
                return found
    return None


def test_equal_templates_rarely_have_a_winner() -> None:
    draw = random.Random(12)
    found = [campaign_decides((0.1, 0.1), 3200, draw) for _ in range(200)]
    assert sum(one is not None for one in found) <= 10  # 5 %


def test_a_better_template_wins_before_the_end() -> None:
    draw = random.Random(12)
    found = [campaign_decides((0.1, 0.2), 3200, draw) for _ in range(50)]
    assert found.count(1) >= 48
    assert found.count(0) == 0


def test_trials_count_the_furthest_state() -> None:
    counts = {
        ("pending", 0): 500, ("queued", 0): 5, ("skipped", 1): 9, ("sent", 0): 10, ("delivered", 0): 20,
        ("read", 0): 30, ("replied", 0): 4, ("failed", 0): 2, ("delivered", 1): 7, ("replied", 1): 3,
        ("opted_out", 1): 1, ("unknown", 1): 1,
    }  # fmt: skip
    assert comparison.trials(counts, "delivered") == (Trial(66, 54), Trial(12, 10))
    assert comparison.trials(counts, "read") == (Trial(66, 34), Trial(12, 3))
    assert comparison.trials(counts, "replied") == (Trial(66, 4), Trial(12, 3))


def test_a_recipient_has_one_variant_by_its_id_alone() -> None:
    # As uuid7 makes them: ids of one moment share their beginning.
    ids = [UUID(int=(0x019AC2F07F2E7A63 << 64) | place) for place in range(10_000)]
    others = [one for one in ids if comparison.variant_of(one, 0.3, None) == 1]
    assert 2850 <= len(others) <= 3150
    assert all(comparison.variant_of(one, 0.3, None) == 1 for one in others)
    assert {comparison.variant_of(one, 0.3, 0) for one in ids} == {0}
    assert {comparison.variant_of(one, 0.3, 1) for one in ids} == {1}
