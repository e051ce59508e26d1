"""When a recipient may be written to, by the clock of the place where they live, with both changes of the clock."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.domain.campaigns.quiet_hours import QuietHours, allowed_from, zones_of_number

NIGHT = QuietHours(time(21), time(8))
SIESTA = QuietHours(time(14), time(17))
MADRID, NEW_YORK, SYDNEY, KATHMANDU, KOLKATA, LORD_HOWE, SANTIAGO, ST_JOHNS = map(
    ZoneInfo,
    (
        "Europe/Madrid", "America/New_York", "Australia/Sydney", "Asia/Kathmandu", "Asia/Kolkata",
        "Australia/Lord_Howe", "America/Santiago", "America/St_Johns",
    ),
)  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("quiet", "clock", "held"),
    [
        (NIGHT, time(20, 59, 59), False),
        (NIGHT, time(21), True),
        (NIGHT, time(0), True),
        (NIGHT, time(7, 59), True),
        (NIGHT, time(8), False),
        (SIESTA, time(13, 59), False),
        (SIESTA, time(14), True),
        (SIESTA, time(17), False),
        (SIESTA, time(23), False),
    ],
)
def test_the_hours_of_a_wall_clock(quiet: QuietHours, clock: time, held: bool) -> None:
    assert quiet.hold(clock) is held


def test_hours_that_end_when_they_begin_are_refused() -> None:
    with pytest.raises(ValueError, match="same time"):
        QuietHours(time(8), time(8))


@pytest.mark.parametrize(
    ("quiet", "zone", "now", "allowed"),
    [
        (NIGHT, MADRID, "2026-11-28T12:00", "2026-11-28T12:00"),  # by day: now
        (NIGHT, MADRID, "2026-11-28T23:00", "2026-11-29T07:00"),  # before midnight there: the next day
        (NIGHT, MADRID, "2026-11-29T02:00", "2026-11-29T07:00"),  # after it: the same day
        (NIGHT, NEW_YORK, "2026-11-28T12:00", "2026-11-28T13:00"),
        (NIGHT, KATHMANDU, "2026-11-28T16:00", "2026-11-29T02:15"),  # a quarter of an hour off
        (NIGHT, KOLKATA, "2026-11-28T16:00", "2026-11-29T02:30"),  # half an hour off
        (SIESTA, MADRID, "2026-11-28T13:30", "2026-11-28T16:00"),
        # The clock is put forward in the night: the morning comes an hour sooner.
        (NIGHT, MADRID, "2026-03-28T22:00", "2026-03-29T06:00"),
        (NIGHT, NEW_YORK, "2026-03-08T03:00", "2026-03-08T12:00"),
        # It is put back: an hour later.
        (NIGHT, MADRID, "2026-10-24T22:00", "2026-10-25T07:00"),
        (NIGHT, NEW_YORK, "2026-11-01T03:00", "2026-11-01T13:00"),
        # South of the equator it is put forward in October, and back in April.
        (NIGHT, SYDNEY, "2026-10-03T12:00", "2026-10-03T21:00"),
        (NIGHT, SYDNEY, "2026-04-04T12:00", "2026-04-04T22:00"),
        # Half an hour off, and put forward and back by an hour.
        (NIGHT, ST_JOHNS, "2026-03-08T03:00", "2026-03-08T10:30"),
        (NIGHT, ST_JOHNS, "2026-11-01T03:00", "2026-11-01T11:30"),
        # Put forward and back by half an hour.
        (NIGHT, LORD_HOWE, "2026-10-03T12:00", "2026-10-03T21:00"),
        (NIGHT, LORD_HOWE, "2026-04-04T12:00", "2026-04-04T21:30"),
        (QuietHours(time(22), time(2, 15)), LORD_HOWE, "2026-10-03T14:00", "2026-10-03T15:30"),
        # At midnight, so that the day begins at one, or its last hour comes twice.
        (QuietHours(time(22), time(0, 30)), SANTIAGO, "2026-09-06T03:00", "2026-09-06T04:00"),
        (NIGHT, SANTIAGO, "2026-04-05T02:40", "2026-04-05T12:00"),
        # Half past two is leapt over: quiet ends with the leap, from two to three.
        (QuietHours(time(22), time(2, 30)), MADRID, "2026-03-28T23:30", "2026-03-29T01:00"),
        # Half past two comes twice: quiet ends at the first one, and holds again from two to half past.
        (QuietHours(time(22), time(2, 30)), MADRID, "2026-10-24T23:30", "2026-10-25T00:30"),
        (QuietHours(time(22), time(2, 30)), MADRID, "2026-10-25T00:45", "2026-10-25T00:45"),
        (QuietHours(time(22), time(2, 30)), MADRID, "2026-10-25T01:15", "2026-10-25T01:30"),
        # Quiet begins in the hour that does not exist.
        (QuietHours(time(2, 30), time(5)), MADRID, "2026-03-29T01:10", "2026-03-29T03:00"),
    ],
)
def test_the_first_moment_that_is_not_quiet(quiet: QuietHours, zone: ZoneInfo, now: str, allowed: str) -> None:
    assert allowed_from(quiet, [zone], NEW_YORK, at(now)) == at(allowed)


def test_of_several_zones_none_may_be_quiet() -> None:
    assert allowed_from(NIGHT, [MADRID, NEW_YORK], MADRID, at("2026-11-28T08:00")) == at("2026-11-28T13:00")


def test_zones_that_are_never_awake_together_leave_it_to_the_tenants_own() -> None:
    short = QuietHours(time(10), time(9))
    assert allowed_from(short, [MADRID, NEW_YORK], MADRID, at("2026-11-28T12:00")) == at("2026-11-29T08:00")
    assert allowed_from(short, [], MADRID, at("2026-11-28T12:00")) == at("2026-11-29T08:00")


def test_a_moment_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="no moment"):
        allowed_from(NIGHT, [MADRID], MADRID, datetime(2026, 11, 28))


def test_for_two_years_of_quarter_hours_the_moment_is_the_first_one_awake() -> None:
    """Against the definition: no earlier minute is awake, and the moment itself is."""
    now = at("2026-01-01T00:07")
    while now < at("2028-01-01T00:00"):
        for quiet, zone in (
            (NIGHT, MADRID), (QuietHours(time(1, 15), time(2, 45)), NEW_YORK), (SIESTA, SYDNEY),
            (QuietHours(time(22), time(2, 15)), LORD_HOWE), (QuietHours(time(22), time(0, 30)), SANTIAGO),
        ):  # fmt: skip
            allowed = allowed_from(quiet, [zone], zone, now)
            assert allowed >= now
            assert not quiet.hold(allowed.astimezone(zone).time())
            assert allowed == now or quiet.hold((allowed - timedelta(seconds=1)).astimezone(zone).time())
            assert allowed == now or quiet.hold(now.astimezone(zone).time())
        now += timedelta(hours=7, minutes=15)


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("+442071838750", {"Europe/London"}),
        ("+14155238886", {"America/Los_Angeles"}),
        ("+34600111222", {"Europe/Madrid", "Atlantic/Canary"}),
        ("+525512345678", {"America/Mexico_City"}),
        ("+999123", set()),
        ("a mailbox", set()),
    ],
)
def test_the_zones_of_a_number(number: str, zones: set[str]) -> None:
    assert {zone.key for zone in zones_of_number(number)} == zones
