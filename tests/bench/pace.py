"""Measures a pace from the moments of calls: the most in any second, and how much of a rate they use."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`calls` at a set rate: at most `most` of them in any second, and the share `used` of the rate from the first to
    the last one."""

    calls: int
    most: int
    used: float

    def keeps(self, rate: float) -> bool:
        """Whether no second has more calls than the rate and what it may have too much: 5 %, or one."""
        return self.most <= rate + max(0.05 * rate, 1)


def pace(times: Iterable[float], rate: float) -> Pace:
    """The pace of calls at these moments, in seconds and in any order."""
    ordered = sorted(times)
    if len(ordered) < 2:
        return Pace(len(ordered), len(ordered), 0.0)
    first = most = 0  # of the second that ends with the call at hand, which it counts and its beginning not
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return Pace(len(ordered), most, (len(ordered) - 1) / ((ordered[-1] - ordered[0]) * rate or 1.0))
