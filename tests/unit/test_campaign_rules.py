"""The life, the pace and the automatic pauses of a campaign, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.campaigns import auto_pause, life, pace
from shared.domain.campaigns.auto_pause import AutoPause, Outcomes, Thresholds
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


@pytest.mark.parametrize(
    ("rate", "reserve", "every"),
    [(80.0, 0.2, 0.125), (1000.0, 0.2, 0.01), (80.0, 0.0, 0.0), (66.0, 0.2, 0.0), (10.0, 0.5, 0.0)],
)
def test_few_replies_go_ahead_of_a_campaign_where_the_rate_has_room(rate: float, reserve: float, every: float) -> None:
    assert pace.ahead_every(rate, reserve) == pytest.approx(every)


# -- automatic pauses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "pulled"),
    [
        (Outcomes(terminal=0), None),
        (Outcomes(terminal=19, failed=19), None),  # too few to say anything
        (Outcomes(terminal=100, failed=20), None),
        (Outcomes(terminal=100, failed=21), AutoPause("failures", 21.0, 20.0)),
        (Outcomes(terminal=100, opted_out=6), AutoPause("opt_outs", 6.0, 5.0)),
        (Outcomes(terminal=100, failed=30, blocked=20), AutoPause("blocks", 20.0, 5.0)),  # the worst one is named
        (Outcomes(terminal=5, held=95), AutoPause("held", 95.0, 30.0)),
        (Outcomes(terminal=0, held=20), AutoPause("held", 100.0, 30.0)),
    ],
)
def test_a_campaign_pauses_by_itself(outcomes: Outcomes, pulled: AutoPause | None) -> None:
    assert auto_pause.auto_pause(outcomes, Thresholds()) == pulled


@pytest.mark.parametrize(
    ("recipients", "ends"),
    [
        (100_000, (1000, 10_000, 100_000)),
        (1_000_000, (10_000, 100_000, 1_000_000)),
        (1000, (20, 100, 1000)),
        (300, (20, 40, 300)),  # a wave of less than 20 says nothing
        (40, (20, 40)),
        (20, (20,)),
        (5, (5,)),
        (1, (1,)),
        (0, (0,)),
    ],
)
def test_waves(recipients: int, ends: tuple[int, ...]) -> None:
    assert auto_pause.wave_ends(recipients) == ends


@pytest.mark.parametrize(
    ("shares", "ends"), [((), (1000,)), ((0.5, 0.1), (100, 500, 1000)), ((0.1, 0.1), (100, 120, 1000))]
)
def test_waves_by_setting(shares: tuple[float, ...], ends: tuple[int, ...]) -> None:
    assert auto_pause.wave_ends(1000, shares) == ends


def test_outcomes_by_state() -> None:
    recipients = {
        "pending": 900, "queued": 10, "held": 7, "sent": 20, "delivered": 30, "read": 5, "replied": 4, "failed": 3,
        "skipped": 50, "opted_out": 2, "unknown": 1,
    }  # fmt: skip
    assert Outcomes.of(recipients, blocked_failures=2, blocked_opt_outs=1) == Outcomes(
        terminal=65, failed=3, blocked=3, opted_out=1, held=7
    )
    assert Outcomes.of({}) == Outcomes()


def test_after_a_resume_only_new_outcomes_pause_it_again() -> None:
    at_resume = Outcomes(terminal=100, failed=30)
    unchanged, worse = Outcomes(terminal=150, failed=30), Outcomes(terminal=150, failed=45)
    assert auto_pause.auto_pause(at_resume, Thresholds()) is not None
    assert auto_pause.auto_pause(unchanged.since(at_resume), Thresholds()) is None
    assert auto_pause.auto_pause(worse.since(at_resume), Thresholds()) == AutoPause("failures", 30.0, 20.0)
    assert Outcomes(terminal=99, failed=28).since(at_resume) == Outcomes()  # some were delivered after all


@pytest.mark.parametrize("stored", [None, [], {"terminal": "7"}, {"newer": 7}])
def test_outcomes_that_cant_be_read_are_none(stored: object) -> None:
    assert auto_pause.outcomes_of(stored) == Outcomes()


def test_outcomes_survive_their_row() -> None:
    outcomes = Outcomes(terminal=99, failed=28, held=4)
    assert auto_pause.outcomes_of(outcomes.as_json()) == outcomes


@pytest.mark.parametrize("rate", [0.1, 0.5, 3.0, 10.0, 80.0])
@pytest.mark.parametrize("late", [0.0, 0.3])  # seconds by which each page comes later than it could
def test_a_campaign_with_a_rate_of_its_own_keeps_to_it(rate: float, late: float) -> None:
    begun = now = datetime(2026, 11, 28, tzinfo=UTC)
    made, used_to = 0, None
    for _ in range(40):
        wanted = pace.own_page(rate, used_to, now)
        used_to = pace.used_up(rate, used_to, now, wanted)
        made += wanted
        now = max(used_to, now) + timedelta(seconds=late)
    assert (now - begun).total_seconds() * rate * 0.7 <= made <= (now - begun).total_seconds() * rate + 1


def test_nothing_is_made_while_a_campaigns_own_rate_is_used_up() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    assert pace.own_page(10.0, now + timedelta(seconds=0.1), now) == 0
    assert pace.own_page(10.0, now - timedelta(hours=1), now) == 10  # an hour's rate is not saved up
