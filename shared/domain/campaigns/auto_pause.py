"""Waves and automatic pauses: a campaign begins with few recipients, and stops where too much goes wrong. No I/O.

What is wrong with a campaign shows in its first messages. A template that Meta rejects, a list of old numbers, a text
that makes people opt out: each costs the number its quality if it goes to all of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, Self

WAVES: Final = (0.01, 0.1)  # shares of all recipients after which the campaign waits for a look; then the rest
ENOUGH: Final = 20  # outcomes before a share of them says anything; so a wave has as many recipients, at least

# Reasons of failures and opt-outs that say: this person does not want it, or their provider thinks so. 131049: Meta
# withholds marketing from a recipient who had enough of it, 63049 is Twilio's code for it; 63014: the recipient blocks
# the sender; `complaint`: they reported the mail as spam.
# https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
# https://www.twilio.com/docs/api/errors
BLOCKS: Final = frozenset(("131049", "63049", "63014", "complaint"))

Reason = Literal["failures", "opt_outs", "blocks", "held"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What has become of a campaign's messages so far."""

    terminal: int = 0  # all that left or failed, the following included
    failed: int = 0
    blocked: int = 0  # by the recipient, or by the provider for this recipient's sake
    opted_out: int = 0
    held: int = 0  # at the provider, for an assessment of their quality; not terminal

    @classmethod
    def of(cls, recipients: Mapping[str, int], blocked_failures: int = 0, blocked_opt_outs: int = 0) -> Self:
        """The outcomes by the number of recipients in each state, and how many of two states have a reason of BLOCKS.

        A message that was sent counts, though a receipt may yet report its failure: some providers report nothing else,
        and of failures alone the share is always 100 %.
        """
        left = ("sent", "delivered", "read", "replied", "failed", "opted_out", "unknown")
        return cls(
            terminal=sum(recipients.get(status, 0) for status in left),
            failed=recipients.get("failed", 0),
            blocked=blocked_failures + blocked_opt_outs,
            opted_out=max(0, recipients.get("opted_out", 0) - blocked_opt_outs),
            held=recipients.get("held", 0),
        )

    def since(self, former: "Outcomes") -> "Outcomes":
        """What has been added to `former`. A message that failed may be delivered later: none is less than 0."""
        return Outcomes(**{name: max(0, value - getattr(former, name)) for name, value in self.as_json().items()})

    def as_json(self) -> dict[str, int]:
        """As a row keeps it."""
        return asdict(self)


def outcomes_of(stored: Any) -> Outcomes:
    """The inverse of `as_json`; no outcomes where that can't be read."""
    if not isinstance(stored, Mapping):
        return Outcomes()
    known = {field.name for field in fields(Outcomes)}
    return Outcomes(**{name: value for name, value in stored.items() if name in known and isinstance(value, int)})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares at which a campaign pauses by itself."""

    failures: float = 0.2
    opt_outs: float = 0.05
    blocks: float = 0.05
    held: float = 0.3


@dataclass(frozen=True, slots=True)
class AutoPause:
    """Why a campaign pauses by itself: the share, in per cent, and what was allowed."""

    reason: Reason
    share: float
    allowed: float


def auto_pause(outcomes: Outcomes, thresholds: Thresholds) -> AutoPause | None:
    """The pause that these outcomes lead to, by the worst of them; None where the campaign may go on."""
    known = outcomes.terminal + outcomes.held
    if known < ENOUGH:
        return None
    counted: tuple[tuple[Reason, int, int, float], ...] = (
        ("blocks", outcomes.blocked, outcomes.terminal, thresholds.blocks),
        ("opt_outs", outcomes.opted_out, outcomes.terminal, thresholds.opt_outs),
        ("failures", outcomes.failed, outcomes.terminal, thresholds.failures),
        ("held", outcomes.held, known, thresholds.held),
    )
    found = [
        AutoPause(reason, round(100 * count / of, 1), round(100 * allowed, 1))
        for reason, count, of, allowed in counted
        if of and count / of > allowed
    ]
    return max(found, key=lambda one: one.share / max(one.allowed, 0.1), default=None)


def wave_ends(recipients: int, shares: Sequence[float] = WAVES) -> tuple[int, ...]:
    """After how many recipients each wave ends, the last one with all of them.

    A wave has at least as many recipients as say anything (ENOUGH), so a small campaign is one wave.
    """
    ends: list[int] = []
    for share in sorted(shares):
        end = max(math.ceil(recipients * share), (ends[-1] if ends else 0) + ENOUGH)
        if end >= recipients:
            break
        ends.append(end)
    return (*ends, recipients)
