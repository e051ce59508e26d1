"""When a delivery is tried again, by the schedule of Standard Webhooks: ten attempts in three days. No I/O.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from datetime import timedelta
from typing import Final

# Seconds before each attempt, after the one before it.
SCHEDULE: Final = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
MOST_ATTEMPTS: Final = len(SCHEDULE)
JITTER: Final = 0.1
# A delivery that the circuit breaker holds back is given up when its own attempts would be used up at the latest.
LONGEST: Final = timedelta(seconds=sum(SCHEDULE) * (1 + JITTER))
LEAST_RETRY_AFTER: Final = 60.0  # seconds that a Retry-After may ask for where twice the step is less


def after_failure(
    attempts: int, age: timedelta, retry_after: float | None, roll: float, *, most: int = MOST_ATTEMPTS
) -> timedelta | None:
    """How long a delivery waits for its next attempt; None where it is exhausted.

    `attempts` (1 or more) have ended and failed, `age` is the time since the delivery was made, `retry_after` seconds
    are what the last answer asked for, and `roll` in [0, 1) is chance. `Retry-After` is honoured up to twice the step,
    so that a URL can't put off a delivery for ever.
    """
    if attempts >= min(most, MOST_ATTEMPTS) or is_too_old(age):
        return None
    step = SCHEDULE[attempts] * (1 + JITTER * (2 * roll - 1))
    longest = max(2.0 * SCHEDULE[attempts], LEAST_RETRY_AFTER)
    return timedelta(seconds=max(step, min(retry_after or 0.0, longest)))


def is_too_old(age: timedelta) -> bool:
    """Whether a delivery is older than its whole schedule, as one that was held back may be."""
    return age > LONGEST
