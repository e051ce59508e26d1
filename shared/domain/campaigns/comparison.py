"""Decides which of two templates does better, early where the difference is plain, and not by chance. No I/O.

To test the same growing figures again and again finds a difference where there is none: at 5 %, ten looks find one in
19 % of trials (Armitage, McPherson and Rowe, "Repeated Significance Tests on Accumulating Data", 1969). So there are
few looks, and they share the error that is allowed. Each comes when the smaller side has twice the outcomes that it had
at the last one. How many there can be is known by then, for the recipients are frozen. Each has an equal part of the
allowed error (Bonferroni): whatever the looks have to do with each other, together they err no more often than that.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal
from uuid import UUID

Variant = Literal[0, 1]
Measure = Literal["delivered", "read", "replied"]

# The states that say a message got so far: a recipient's state is the furthest one.
_REACHED: Final[Mapping[Measure, frozenset[str]]] = {
    "delivered": frozenset(("delivered", "read", "replied")),
    "read": frozenset(("read", "replied")),
    "replied": frozenset(("replied",)),
}
_OUTCOMES: Final = frozenset(("sent", "delivered", "read", "replied", "failed", "opted_out", "unknown"))


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcomes of one of the templates, and how many of them are a success."""

    outcomes: int
    successes: int


def variant_of(recipient_id: UUID, share: float, winner: int | None) -> Variant:
    """Which template a recipient gets: 1, the other one, for this share of them; all get the winner once it is known.

    By the recipient's id alone, so that a second attempt comes to the same.
    """
    if winner is not None:
        return 1 if winner == 1 else 0
    drawn = int.from_bytes(hashlib.sha256(recipient_id.bytes).digest()[:8], "big")
    return 1 if drawn < share * 2**64 else 0


def trials(counts: Mapping[tuple[str, int], int], by: Measure) -> tuple[Trial, Trial]:
    """Both templates' outcomes, by the number of recipients of each (state, variant)."""

    def of(variant: Variant) -> Trial:
        mine = {status: count for (status, which), count in counts.items() if which == variant}
        return Trial(
            sum(count for status, count in mine.items() if status in _OUTCOMES),
            sum(count for status, count in mine.items() if status in _REACHED[by]),
        )

    return of(0), of(1)


def looks(recipients: int, share: float, at_least: int) -> int:
    """How many looks a campaign of so many recipients can have."""
    smaller = recipients * min(share, 1 - share)
    return 1 if smaller < 2 * at_least else 1 + math.floor(math.log2(smaller / at_least))


def look_number(first: Trial, second: Trial, at_least: int) -> int:
    """Which look these outcomes allow, from 1; 0 where there are too few for the first one."""
    smaller = min(first.outcomes, second.outcomes)
    return 0 if smaller < at_least else 1 + math.floor(math.log2(smaller / at_least))


def winner(first: Trial, second: Trial, confidence: float, most_looks: int) -> Variant | None:
    """The template that does better; None where that may be chance.

    By the z-test of two proportions with pooled variance. `most_looks`: how many such tests the campaign can have.
    """
    if not first.outcomes or not second.outcomes:
        return None
    rates = first.successes / first.outcomes, second.successes / second.outcomes
    pooled = (first.successes + second.successes) / (first.outcomes + second.outcomes)
    variance = pooled * (1 - pooled) * (1 / first.outcomes + 1 / second.outcomes)
    if variance <= 0:  # all succeeded, or none did
        return None
    allowed = (1 - confidence) / max(1, most_looks)
    if abs(rates[1] - rates[0]) / math.sqrt(variance) < NormalDist().inv_cdf(1 - allowed / 2):
        return None
    return 1 if rates[1] > rates[0] else 0
