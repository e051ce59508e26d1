"""Token buckets: how many calls a key has left, and how many wrong keys an address may try. No I/O.

They count in this process alone: a key's calls to several API processes have a bucket in each.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil
from typing import Final

MOST_BUCKETS: Final = 10_000  # of strangers' addresses; the one that was used longest ago is forgotten first


@dataclass(slots=True)
class Bucket:
    """Holds at most `quota` tokens, and gains as many in `window` seconds. Each `now` is by the monotonic clock."""

    quota: int
    window: float
    tokens: float
    as_of: float

    @classmethod
    def full(cls, quota: int, window: float, now: float) -> "Bucket":
        return cls(quota, window, float(quota), now)

    def take(self, now: float) -> bool:
        """Take a token; false where there is none."""
        self._refill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def is_empty(self, now: float) -> bool:
        self._refill(now)
        return self.tokens < 1

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 where there is one."""
        self._refill(now)
        return max(0.0, (1 - self.tokens) * self.window / self.quota)

    def headers(self, now: float) -> dict[str, str]:
        """`RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers: the tokens that are left, and the
        seconds after which there are more (none left), or after which all are there again."""
        self._refill(now)
        left = int(self.tokens)
        missing = self.quota - self.tokens if left else 1 - self.tokens
        seconds = ceil(missing * self.window / self.quota)
        return {
            "RateLimit-Policy": f'"default";q={self.quota};w={ceil(self.window)}',
            "RateLimit": f'"default";r={left};t={seconds}',
        }

    def _refill(self, now: float) -> None:
        self.tokens = min(self.quota, self.tokens + (now - self.as_of) * self.quota / self.window)
        self.as_of = now


class Buckets:
    """A bucket for each of many; the least recently used ones are forgotten, and begin full."""

    def __init__(self, quota: int, window: float) -> None:
        self._quota = quota
        self._window = window
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def of(self, whose: Hashable, now: float) -> Bucket:
        found = self._buckets.get(whose)
        if found is None:
            found = self._buckets[whose] = Bucket.full(self._quota, self._window, now)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(whose)
        return found
