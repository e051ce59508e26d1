"""The life, the pace and the brakes of a campaign, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.campaigns import brakes, life, pace
from shared.domain.campaigns.brakes import Brake, Outcomes, Thresholds
from shared.domain.campaigns.pace import Slowed

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


# -- life --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "starts", "end"),
    [
        ("schedule", "draft scheduled", "scheduled"),
        ("unschedule", "scheduled", "draft"),
        ("start", "draft scheduled paused", "running"),
        ("pause", "running", "paused"),
        ("resume", "paused", "running"),
        ("cancel", "scheduled running paused", "canceled"),
        ("complete", "running", "completed"),
        ("fail", "scheduled running paused", "failed"),
    ],
)
def test_each_step(step: life.Step, starts: str, end: str) -> None:
    assert {status for status in life.STATUSES if life.may(step, status)} == set(starts.split())
    assert [status for status in life.STATUSES if life.is_taken(step, status)] == [end]


def test_nothing_leads_out_of_what_is_over() -> None:
    assert {start for start, _ in life.EDGES} & life.OVER == set()
    assert {end for _, end in life.EDGES} >= life.OVER


# -- pace --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slowed", "share"),
    [
        (None, 1.0),
        (Slowed(0.7, NOW), 0.7),
        (Slowed(0.7, NOW - timedelta(seconds=9.9)), 0.7),
        (Slowed(0.7, NOW - timedelta(seconds=10)), 0.75),
        (Slowed(0.7, NOW - timedelta(seconds=59)), 0.95),
        (Slowed(0.7, NOW - timedelta(seconds=60)), 1.0),
        (Slowed(0.7, NOW - timedelta(hours=1)), 1.0),
        (Slowed(0.7, NOW + timedelta(seconds=30)), 0.7),  # the clocks of two hosts differ
    ],
)
def test_a_channel_comes_back_step_by_step(slowed: Slowed | None, share: float) -> None:
    assert pace.share(slowed, NOW) == pytest.approx(share)


@pytest.mark.parametrize(
    ("slowed", "after", "stands"),
    [
        (None, 0.0, Slowed(0.7, NOW)),
        # Calls that were in flight together are refused together.
        (Slowed(0.7, NOW), 0.0, Slowed(0.7, NOW)),
        (Slowed(0.7, NOW), 0.999, Slowed(0.7, NOW)),
        (Slowed(0.7, NOW), -0.5, Slowed(0.7, NOW)),  # by a clock that is behind
        (Slowed(0.7, NOW), 1.0, Slowed(0.49, NOW + timedelta(seconds=1))),
        (Slowed(0.5, NOW), 20.0, Slowed(0.42, NOW + timedelta(seconds=20))),  # two quiet tens of seconds: of 60 %
        (Slowed(0.06, NOW), 2.0, Slowed(pace.SLOWEST, NOW + timedelta(seconds=2))),
    ],
)
def test_a_refusal_slows_the_channel_once_a_second_and_down_to_a_bound(
    slowed: Slowed | None, after: float, stands: Slowed
) -> None:
    found = pace.refused(slowed, NOW + timedelta(seconds=after))
    assert found.at == stands.at
    assert found.share == pytest.approx(stands.share)


@pytest.mark.parametrize(
    ("setting", "inbound", "slowed", "rate"),
    [
        (80.0, 0.0, None, 64.0),
        (80.0, 30.0, None, 40.0),
        (80.0, 200.0, None, 3.2),  # customers write more than the number may handle
        (80.0, 0.0, Slowed(0.5, NOW), 32.0),
        (1.0, 0.0, None, 0.8),
    ],
)
def test_a_campaign_has_what_replies_and_customers_leave(
    setting: float, inbound: float, slowed: Slowed | None, rate: float
) -> None:
    assert pace.bulk_rate(setting, inbound, slowed, NOW) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rate", "waiting", "taken"),
    [(64.0, 0, 128), (64.0, 100, 28), (64.0, 128, 0), (64.0, 1000, 0), (0.1, 0, 1), (0.1, 1, 0), (1000.0, 0, 500)],
)
def test_only_what_leaves_soon_becomes_messages(rate: float, waiting: int, taken: int) -> None:
    assert pace.page(rate, waiting) == taken


# -- brakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "pulled"),
    [
        (Outcomes(terminal=0), None),
        (Outcomes(terminal=19, failed=19), None),  # too few to say anything
        (Outcomes(terminal=100, failed=20), None),
        (Outcomes(terminal=100, failed=21), Brake("failures", 21.0, 20.0)),
        (Outcomes(terminal=100, opted_out=6), Brake("opt_outs", 6.0, 5.0)),
        (Outcomes(terminal=100, failed=30, blocked=20), Brake("blocks", 20.0, 5.0)),  # the worst one is named
        (Outcomes(terminal=5, held=95), Brake("held", 95.0, 30.0)),
        (Outcomes(terminal=0, held=20), Brake("held", 100.0, 30.0)),
    ],
)
def test_a_campaign_pauses_by_itself(outcomes: Outcomes, pulled: Brake | None) -> None:
    assert brakes.brake(outcomes, Thresholds()) == pulled


@pytest.mark.parametrize(
    ("recipients", "ends"),
    [
        (100_000, (1000, 10_000, 100_000)),
        (1_000_000, (10_000, 100_000, 1_000_000)),
        (5, (1, 5)),
        (1, (1,)),
        (0, (0,)),
    ],
)
def test_waves(recipients: int, ends: tuple[int, ...]) -> None:
    assert brakes.wave_ends(recipients) == ends
