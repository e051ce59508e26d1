"""How far a campaign is and when it will be through, as a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.domain.campaigns.progress import Progress, WaitingFor, advance

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def former(seconds_ago: float, done: int, rate: float) -> dict[str, Any]:
    return Progress(NOW - timedelta(seconds=seconds_ago), done, 0, rate, None).as_json()


@pytest.mark.parametrize(
    ("before", "waiting_for", "rate", "seconds"),
    [
        (None, None, 0.0, None),
        (former(10, 100, 0.0), None, 30.0, 20.0),
        (former(10, 100, 50.0), None, 40.0, 15.0),  # not all at once
        (former(10, 400, 30.0), None, 15.0, 40.0),  # nothing since
        (former(10, 100, 30.0), "wave", 30.0, None),  # its end is not known
        ({"at": "yesterday"}, None, 0.0, None),
        ({"at": "2026-11-28T11:00:00", "done": 1, "rate": 1}, None, 0.0, None),
    ],
)
def test_rate_and_expected_end(
    before: dict[str, Any] | None, waiting_for: WaitingFor | None, rate: float, seconds: float | None
) -> None:
    recipients = {"pending": 600, "queued": 100, "delivered": 300, "skipped": 50}
    eta = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert advance(before, recipients, NOW, waiting_for) == Progress(NOW, 400, 600, rate, eta, waiting_for)


def test_not_within_two_seconds() -> None:
    assert advance(former(1.9, 0, 1.0), {"pending": 1}, NOW, None) is None
    assert advance(former(1.9, 0, 1.0), {"pending": 1}, NOW, "wave") is not None  # it may wait for hours
    assert advance(former(2.0, 0, 1.0), {"pending": 1}, NOW, None) is not None
    assert advance(former(-60, 0, 1.0), {"pending": 1}, NOW, None) is not None  # the clock was put back
