"""Waves and brakes: a campaign begins with few recipients, and stops by itself where too much goes wrong. No I/O.

What is wrong with a campaign shows in its first messages. A template that Meta rejects, a list of old numbers, a text
that makes people opt out: each costs the number its quality if it goes to all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

WAVES: Final = (0.01, 0.1)  # shares of all recipients after which the campaign waits for a look; then the rest
ENOUGH: Final = 20  # outcomes before a share of them says anything

Reason = Literal["failures", "opt_outs", "blocks", "held"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What has become of a campaign's messages so far."""

    terminal: int  # of all outcomes, these included
    failed: int = 0
    blocked: int = 0  # by the recipient, or by the provider for this recipient's sake
    opted_out: int = 0
    held: int = 0  # at the provider, for an assessment of their quality; not terminal


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Shares at which a campaign pauses by itself."""

    failures: float = 0.2
    opt_outs: float = 0.05
    blocks: float = 0.05
    held: float = 0.3


@dataclass(frozen=True, slots=True)
class Brake:
    """Why a campaign pauses by itself: the share, in per cent, and what was allowed."""

    reason: Reason
    share: float
    allowed: float


def brake(outcomes: Outcomes, thresholds: Thresholds) -> Brake | None:
    """The brake that these outcomes pull, the worst first; None where the campaign may go on."""
    known = outcomes.terminal + outcomes.held
    if known < ENOUGH:
        return None
    counted: tuple[tuple[Reason, int, int, float], ...] = (
        ("blocks", outcomes.blocked, outcomes.terminal, thresholds.blocks),
        ("opt_outs", outcomes.opted_out, outcomes.terminal, thresholds.opt_outs),
        ("failures", outcomes.failed, outcomes.terminal, thresholds.failures),
        ("held", outcomes.held, known, thresholds.held),
    )
    pulled = [
        Brake(reason, round(100 * count / of, 1), round(100 * allowed, 1))
        for reason, count, of, allowed in counted
        if of and count / of > allowed
    ]
    return max(pulled, key=lambda one: one.share / max(one.allowed, 0.1), default=None)


def wave_ends(recipients: int, shares: Sequence[float] = WAVES) -> tuple[int, ...]:
    """After how many recipients each wave ends, the last one with all of them. A wave has at least one recipient."""
    ends = [min(recipients, max(1, math.ceil(recipients * share))) for share in shares]
    return tuple(dict.fromkeys((*ends, recipients)))
