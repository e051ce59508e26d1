"""When a recurring campaign runs: by a cron expression, on the clock of the campaign's time zone. No I/O.

Five fields, as cron has them: minute, hour, day of the month, month, day of the week. Where the clock is put forward
over a fixed time, the run comes right after; where it is put back and shows that time twice, the run comes once.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SHORTEST: Final = timedelta(minutes=15)  # between two runs
LONGEST: Final = 200  # characters
_EXAMPLE: Final = "write five fields, such as `0 9 * * MON` for Mondays at 9"
_SEEN: Final = 1000  # runs that are compared with each other: ten days of the densest expression
_YEARS: Final = timedelta(days=800)  # in which they lie; what comes more rarely has no neighbours
_FIRST_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)  # of a leap year


def check(expression: str) -> str:
    """The expression, with single blanks. Raises ValueError that says what is wrong and what to write."""
    fields = expression.split()
    if len(fields) != 5 or len(expression) > LONGEST:
        raise ValueError(f"is no cron expression; {_EXAMPLE}")
    plain = " ".join(fields)
    try:
        _check_distance(plain)
    except CronSimError as error:  # "Bad minute"
        raise ValueError(f"has a {str(error).lower()}; {_EXAMPLE}") from None
    return plain


@lru_cache(maxsize=1024)
def _check_distance(expression: str) -> None:
    first = former = None
    for _, moment in zip(range(_SEEN), CronSim(expression, _FIRST_DAY), strict=False):
        if former is not None and moment - former < SHORTEST:
            raise ValueError(
                f"runs at {former:%H:%M} and again at {moment:%H:%M}; leave {SHORTEST // timedelta(minutes=1)} minutes "
                "between two runs at least"
            )
        first, former = first or moment, moment
        if moment - first > _YEARS:
            break
    if former is None:
        raise ValueError("names a day that never comes")


def next_run(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The first run later than `after`, an aware datetime; in UTC.

    Runs that were missed are not made up for: give the present time. Raises ValueError for a wrong expression.
    """
    expression = check(expression)
    # Where the clock shows an hour twice, the first answers may lie before `after`.
    for found in CronSim(expression, after.astimezone(zone)):
        moment = found.astimezone(UTC)
        if moment > after:
            return moment
    raise ValueError("names a day that never comes")
