"""Decides when a recipient may be written to: not in the quiet hours of the place where they live. No I/O.

The place is known by the phone number's area, or from the contact. A mobile number often belongs to a country with
several time zones: then it must be no quiet hour in any of them. Where that leaves no hour of the day, the tenant's own
zone counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers import timezone as number_zones

_UNKNOWN: Final = number_zones.UNKNOWN_TIMEZONE
_DAY: Final = timedelta(days=1)
_LONGEST_GAP: Final = timedelta(hours=3)  # by which a clock was ever put forward at once
_ROUNDS: Final = 8  # ends of quiet hours to try one after the other; zones without a common hour take more


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` until before `end` on the wall clock, over midnight where `begin` is the later one."""

    begin: time
    end: time

    def __post_init__(self) -> None:
        if self.begin == self.end:
            raise ValueError("quiet hours begin and end at the same time: leave them out, or pause the campaign")

    def hold(self, at: time) -> bool:
        """Whether this is a quiet time of day."""
        if self.begin < self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end


@lru_cache(maxsize=65_536)
def zones_of_number(number: str) -> tuple[ZoneInfo, ...]:
    """The time zones in which a number in E.164 form may be; none where that is not known."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ()
    return tuple(ZoneInfo(name) for name in number_zones.time_zones_for_number(parsed) if name != _UNKNOWN)


def allowed_from(quiet: QuietHours, zones: Sequence[ZoneInfo], own: ZoneInfo, now: datetime) -> datetime:
    """The first moment from `now` on, in UTC, that is quiet in none of the zones; `own` is the tenant's zone.

    Raises ValueError for a `now` without a time zone.
    """
    if now.utcoffset() is None:
        raise ValueError("a datetime without a time zone is no moment")
    found = _first_common(quiet, zones or (own,), now)
    if found is None:
        found = _first_common(quiet, (own,), now)
    assert found is not None, "a single zone has an hour that is not quiet"
    return found


def _first_common(quiet: QuietHours, zones: Sequence[ZoneInfo], now: datetime) -> datetime | None:
    moment = now.astimezone(UTC)
    for _ in range(_ROUNDS):
        later = max((_end(quiet, zone, moment) for zone in zones), default=moment)
        if later == moment:
            return moment
        moment = later
    return None


def _end(quiet: QuietHours, zone: ZoneInfo, moment: datetime) -> datetime:
    """When the quiet hours end that this moment is in; the moment itself where it is in none."""
    if not quiet.hold(moment.astimezone(zone).time()):
        return moment
    local = moment.astimezone(zone)
    day = local.date() if local.time() < quiet.end else local.date() + _DAY
    end = datetime.combine(day, quiet.end, zone).astimezone(UTC)
    if end <= moment:  # the clock is put back, and shows this hour again
        end = datetime.combine(day, quiet.end, zone).replace(fold=1).astimezone(UTC)
    if end.astimezone(zone).time() != quiet.end:  # the clock is put forward over it
        return _put_forward(quiet, zone, end)
    return end


def _put_forward(quiet: QuietHours, zone: ZoneInfo, after: datetime) -> datetime:
    """The moment before `after` at which the clock of this zone leaps over the end of its quiet hours, to a second."""
    asleep, awake = after - _LONGEST_GAP, after
    while awake - asleep > timedelta(seconds=1):
        middle = asleep + (awake - asleep) / 2
        if quiet.hold(middle.astimezone(zone).time()):
            asleep = middle
        else:
            awake = middle
    return awake.replace(microsecond=0)
