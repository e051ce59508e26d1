"""How a webhook's URL does: its circuit breaker, when it is disabled, and what its tenant is told. No I/O.

closed ── 5th failure in a row ──▶ open ── a probe each 10 s … 15 min ──▶ open
   ▲                                │
   └────────── any success ─────────┘

A webhook is disabled where a delivery is exhausted after five days of failures, and at once by 410.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

FAILING_AT: Final = 4  # failures in a row at which the tenant is told
OPENS_AT: Final = 5
PROBES: Final = (10, 30, 60, 120, 300, 600, 900)  # seconds until each probe; the last one again and again
JITTER: Final = 0.1  # of these, added
LONGEST_PAUSE: Final = 900.0  # seconds that a Retry-After pauses all deliveries to the webhook
DISABLED_AFTER: Final = timedelta(days=5)

DisabledReason = Literal["gone", "exhausted"]
OperatorEvent = Literal["webhook.failing", "webhook.exhausted", "webhook.recovered", "webhook.disabled"]


@dataclass(frozen=True, slots=True)
class Health:
    """A row of `webhook_health`, without its lease."""

    failures: int = 0  # attempts in a row that ended and failed
    first_failed_at: datetime | None = None  # the first of them
    open_until: datetime | None = None  # no attempt before
    probes: int = 0  # that failed since the circuit breaker opened
    disabled_at: datetime | None = None
    disabled_reason: str | None = None

    @property
    def is_probed(self) -> bool:
        """Whether one attempt at a time is made, when `open_until` is over."""
        return self.failures >= OPENS_AT

    def may_try(self, at: datetime) -> bool:
        """Whether a delivery may be attempted. A replay may at any time."""
        return self.disabled_at is None and (self.open_until is None or at >= self.open_until)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt of a delivery ended. Replays and tests are no part of a URL's health."""

    started_at: datetime
    ended_at: datetime
    succeeded: bool
    is_gone: bool = False  # 410: the tenant wants no more
    is_exhausted: bool = False  # it was the delivery's last attempt
    pause: float | None = None  # seconds: Retry-After of a 429 or 503


@dataclass(frozen=True, slots=True)
class Change:
    """The health after an outcome, and the events that tell the tenant of it."""

    health: Health
    events: tuple[OperatorEvent, ...] = ()


def after(health: Health, outcome: Outcome, roll: float) -> Change:
    """What an outcome makes of a webhook's health. `roll` in [0, 1) is chance.

    Attempts that were under way when the circuit breaker opened are no probes: their failures change nothing of it.
    """
    if outcome.succeeded:
        return _succeeded(health)
    events: list[OperatorEvent] = ["webhook.exhausted"] if outcome.is_exhausted else []
    if health.disabled_at is not None:
        return Change(health, tuple(events))
    failures = health.failures + 1
    first_failed_at = health.first_failed_at or outcome.ended_at
    if failures == FAILING_AT:
        events.insert(0, "webhook.failing")
    open_until, probes = _breaker(health, failures, outcome, roll)
    reason: DisabledReason | None = None
    if outcome.is_gone:
        reason = "gone"
    elif outcome.is_exhausted and outcome.ended_at - first_failed_at > DISABLED_AFTER:
        reason = "exhausted"
    if reason is not None:
        events.append("webhook.disabled")
    disabled_at = None if reason is None else outcome.ended_at
    return Change(Health(failures, first_failed_at, open_until, probes, disabled_at, reason), tuple(events))


def after_all(health: Health, outcomes: Iterable[tuple[Outcome, float]]) -> Change:
    """The same of several outcomes, each with its roll, in the order in which they ended."""
    events: list[OperatorEvent] = []
    for outcome, roll in outcomes:
        change = after(health, outcome, roll)
        health = change.health
        events += change.events
    return Change(health, tuple(events))


def concurrency(before: int, succeeded: bool, most: int) -> int:
    """How many attempts run at once after a batch: it doubles up to `most` while all of a batch succeed.

    A webhook whose circuit breaker has just closed begins with 1, so that what was down is not brought down again.
    """
    return min(2 * before, most) if succeeded else max(1, before // 2)


def _succeeded(health: Health) -> Change:
    if health.disabled_at is not None:  # by an attempt at its side; the tenant enables it
        return Change(health)
    return Change(Health(), ("webhook.recovered",) if health.failures >= FAILING_AT else ())


def _breaker(health: Health, failures: int, outcome: Outcome, roll: float) -> tuple[datetime | None, int]:
    """(open_until, probes) after a failure."""
    open_until, probes = health.open_until, health.probes
    if failures >= OPENS_AT:
        if not health.is_probed:
            open_until, probes = _probe_at(0, outcome.ended_at, roll), 0
        elif open_until is None or outcome.started_at >= open_until:
            probes += 1
            open_until = _probe_at(probes, outcome.ended_at, roll)
    if outcome.pause is not None:
        paused = outcome.ended_at + timedelta(seconds=max(0.0, min(outcome.pause, LONGEST_PAUSE)))
        open_until = paused if open_until is None else max(open_until, paused)
    return open_until, probes


def _probe_at(probes: int, at: datetime, roll: float) -> datetime:
    return at + timedelta(seconds=PROBES[min(probes, len(PROBES) - 1)] * (1 + JITTER * roll))
