"""When a recurring campaign runs, both changes of the clock included, as tables."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from shared.domain.campaigns import recurrence

MADRID = ZoneInfo("Europe/Madrid")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clock changes by half an hour


def utc(written: str) -> datetime:
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "after", "runs"),
    [
        ("0 9 * * MON", MADRID, "2026-11-28 12:00", ["2026-11-30 08:00", "2026-12-07 08:00"]),
        ("0 9 * * 1", NEW_YORK, "2026-11-28 12:00", ["2026-11-30 14:00"]),
        ("*/15 * * * *", MADRID, "2026-11-28 12:00", ["2026-11-28 12:15", "2026-11-28 12:30"]),
        ("0 9 1 * *", MADRID, "2026-11-28 12:00", ["2026-12-01 08:00", "2027-01-01 08:00"]),
        ("0 9 29 2 *", MADRID, "2026-11-28 12:00", ["2028-02-29 08:00"]),
        ("0 9 * * *", MADRID, "2026-11-28 08:00", ["2026-11-29 08:00"]),  # not the moment itself
        # Madrid's clock is put forward from 2:00 to 3:00 on 2026-03-29: what was for 2:30 comes at 3:00.
        ("30 2 * * *", MADRID, "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        ("0,30 2,3 * * *", MADRID, "2026-03-29 00:30", ["2026-03-29 01:00", "2026-03-29 01:30", "2026-03-30 00:00"]),
        ("0 9 * * *", MADRID, "2026-03-28 09:00", ["2026-03-29 07:00"]),
        # It is put back from 3:00 to 2:00 on 2026-10-25: 2:30 comes once, and every hour comes each hour.
        ("30 2 * * *", MADRID, "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        ("30 2 * * *", MADRID, "2026-10-25 01:10", ["2026-10-26 01:30"]),  # begun in the second 2:10
        ("30 * * * *", MADRID, "2026-10-25 00:00", ["2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03 12:00", ["2026-10-03 15:30", "2026-10-04 15:15"]),
    ],
)
def test_the_next_runs(expression: str, zone: ZoneInfo, after: str, runs: list[str]) -> None:
    moment, found = utc(after), []
    for _ in runs:
        moment = recurrence.next_run(expression, zone, moment)
        found.append(moment)
    assert found == [utc(one) for one in runs]


def test_runs_that_were_missed_are_not_made_up_for() -> None:
    assert recurrence.next_run("0 * * * *", MADRID, utc("2026-11-28 12:34")) == utc("2026-11-28 13:00")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "is no cron expression; write five fields, such as `0 9 * * MON` for Mondays at 9"),
        ("daily", "is no cron expression; write five fields, such as `0 9 * * MON` for Mondays at 9"),
        ("0 0 9 * * MON", "is no cron expression; write five fields, such as `0 9 * * MON` for Mondays at 9"),
        ("61 9 * * *", "has a bad minute; write five fields, such as `0 9 * * MON` for Mondays at 9"),
        ("0 9 * * LUN", "has a bad day-of-week; write five fields, such as `0 9 * * MON` for Mondays at 9"),
        ("0 9 31 2 *", "has a bad day-of-month; write five fields, such as `0 9 * * MON` for Mondays at 9"),
        ("* * * * *", "runs at 00:01 and again at 00:02; leave 15 minutes between two runs at least"),
        ("0,50 * * * *", "runs at 00:50 and again at 01:00; leave 15 minutes between two runs at least"),
        ("0,50 0,23 * * *", "runs at 23:50 and again at 00:00; leave 15 minutes between two runs at least"),
    ],
)
def test_a_wrong_expression_gets_a_reason(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        recurrence.check(expression)


def test_blanks_are_put_right() -> None:
    assert recurrence.check(" 0  9 * *   MON ") == "0 9 * * MON"
