"""When a delivery is tried again, as a table."""

from datetime import timedelta

import pytest

from shared.domain.webhooks.schedule import LONGEST, MOST_ATTEMPTS, SCHEDULE, after_failure, is_too_old

NOW = timedelta(0)


@pytest.mark.parametrize(
    ("attempts", "seconds"), list(enumerate((5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400), 1))
)
def test_the_steps_of_standard_webhooks_each_spread_by_a_tenth(attempts: int, seconds: int) -> None:
    assert after_failure(attempts, NOW, None, 0.5) == timedelta(seconds=seconds)
    assert after_failure(attempts, NOW, None, 0.0) == timedelta(seconds=seconds * 0.9)
    latest = after_failure(attempts, NOW, None, 0.999)
    assert latest is not None
    assert timedelta(seconds=seconds) < latest < timedelta(seconds=seconds * 1.1)


def test_after_ten_attempts_a_delivery_is_exhausted() -> None:
    assert MOST_ATTEMPTS == len(SCHEDULE) == 10
    assert after_failure(9, NOW, None, 0.5) is not None
    assert after_failure(10, NOW, None, 0.5) is None
    assert after_failure(11, NOW, 5.0, 0.5) is None


@pytest.mark.parametrize(
    ("attempts", "retry_after", "seconds"),
    [
        (1, 0.0, 5),
        (1, 4.0, 5),
        (1, 30.0, 30),
        (1, 3600.0, 60),
        (2, 10.0, 300),
        (2, 400.0, 400),
        (2, 3600.0, 600),
        (4, 86400.0, 14400),
        (9, 1e9, 172800),
    ],
)
def test_retry_after_is_honoured_up_to_twice_the_step(attempts: int, retry_after: float, seconds: float) -> None:
    assert after_failure(attempts, NOW, retry_after, 0.5) == timedelta(seconds=seconds)


def test_what_was_held_back_longer_than_its_schedule_is_exhausted_at_its_next_failure() -> None:
    """A webhook that is down for two days loses nothing."""
    assert timedelta(hours=75) < LONGEST < timedelta(hours=90)
    assert after_failure(1, timedelta(days=2), None, 0.5) is not None
    assert (after_failure(1, LONGEST, None, 0.5), is_too_old(LONGEST)) == (timedelta(seconds=5), False)
    later = LONGEST + timedelta(seconds=1)
    assert (after_failure(1, later, None, 0.5), is_too_old(later)) == (None, True)
