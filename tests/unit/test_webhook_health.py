"""How a webhook's URL does: its circuit breaker and what its tenant is told, as a fold over outcomes."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import pytest

from shared.domain.webhooks.health import PROBES, Health, Outcome, after, after_all, concurrency

START = datetime(2026, 11, 29, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def failed(seconds: float, began: float | None = None, **given: Any) -> Outcome:
    return Outcome(at(seconds if began is None else began), at(seconds), False, **given)


def succeeded(seconds: float) -> Outcome:
    return Outcome(at(seconds), at(seconds), True)


def fold(*outcomes: Outcome, roll: float = 0.0, of: Health | None = None) -> tuple[Health, list[str]]:
    change = after_all(of or Health(), [(outcome, roll) for outcome in outcomes])
    return change.health, list(change.events)


def test_a_batch_at_once_is_the_same_as_one_after_the_other() -> None:
    outcomes = [failed(n) for n in range(7)] + [succeeded(8)] + [failed(9 + n) for n in range(6)]
    health = Health()
    events: list[str] = []
    for outcome in outcomes:
        change = after(health, outcome, 0.3)
        health, events = change.health, [*events, *change.events]
    assert fold(*outcomes, roll=0.3) == (health, events)
    assert events == ["webhook.failing", "webhook.recovered", "webhook.failing"]


@pytest.mark.parametrize(
    ("failures", "events", "is_open"),
    [(1, [], False), (3, [], False), (4, ["webhook.failing"], False), (5, ["webhook.failing"], True)],
)
def test_the_fourth_failure_in_a_row_is_announced_and_the_fifth_opens_the_circuit_breaker(
    failures: int, events: list[str], is_open: bool
) -> None:
    health, seen = fold(*(failed(n) for n in range(failures)))
    assert (health.failures, health.first_failed_at, seen) == (failures, at(0), events)
    assert health.open_until == (at(failures - 1 + 10) if is_open else None)
    assert health.is_probed is is_open
    assert health.may_try(at(13.9)) is not is_open
    assert health.may_try(at(14))


def test_probes_come_after_growing_intervals() -> None:
    health, _ = fold(*(failed(0) for _ in range(5)))
    intervals = []
    for _ in range(9):
        assert health.open_until is not None
        probe = health.open_until
        health = after(health, Outcome(probe, probe, False), 0.0).health
        assert health.open_until is not None
        intervals.append((health.open_until - probe).total_seconds())
    assert intervals == [*PROBES[1:], 900, 900, 900]
    assert after(Health(failures=4), failed(0), 0.999).health.open_until < at(11)  # type: ignore[operator]


def test_a_url_that_is_down_for_two_days_gets_a_call_in_ten_minutes_at_most() -> None:
    health, calls, now = Health(), 0, 0.0
    while now < 48 * 3600:
        calls += 1
        health = after(health, failed(now), 0.0).health
        now = max(now + 1, (health.open_until - START).total_seconds() if health.open_until else 0.0)
    assert calls <= 48 * 6
    assert health.disabled_at is None


def test_attempts_that_were_under_way_when_it_opened_are_no_probes() -> None:
    opened, _ = fold(*(failed(n) for n in range(5)))
    straggled, _ = fold(*(failed(6 + n, began=0) for n in range(11)), of=opened)
    assert (straggled.failures, straggled.open_until, straggled.probes) == (16, opened.open_until, 0)


def test_any_success_closes_it_and_is_announced_once() -> None:
    down, _ = fold(*(failed(n) for n in range(5)), failed(20), failed(60))
    assert fold(succeeded(100), succeeded(101), of=down) == (Health(), ["webhook.recovered"])
    assert fold(failed(0), failed(1), failed(2), succeeded(3)) == (Health(), [])


def test_concurrency_begins_with_one_and_doubles() -> None:
    assert list(accumulate(range(6), lambda now, _: concurrency(now, True, 16), initial=1)) == [1, 2, 4, 8, 16, 16, 16]
    assert [concurrency(16, False, 16), concurrency(1, False, 16)] == [8, 1]


@pytest.mark.parametrize(("pause", "until"), [(0.0, 0), (30.0, 30), (900.0, 900), (86400.0, 900), (-5.0, 0)])
def test_a_url_that_asks_for_it_is_left_in_peace_for_a_quarter_of_an_hour_at_most(pause: float, until: int) -> None:
    health, _ = fold(failed(0, pause=pause))
    assert health.open_until == at(until)
    assert not health.is_probed


def test_a_pause_and_the_circuit_breaker_last_until_the_later_of_both() -> None:
    assert fold(*(failed(0, pause=5.0) for _ in range(5)))[0].open_until == at(10)
    assert fold(*(failed(0, pause=60.0) for _ in range(5)))[0].open_until == at(60)


DAY = 86400.0


@pytest.mark.parametrize(
    ("outcomes", "reason", "events"),
    [
        ([failed(0), failed(4 * DAY, is_exhausted=True)], None, ["webhook.exhausted"]),
        ([failed(0), failed(5 * DAY, is_exhausted=True)], None, ["webhook.exhausted"]),
        ([failed(0), failed(5 * DAY + 1)], None, []),
        ([failed(0), failed(5 * DAY + 1, is_exhausted=True)], "exhausted", ["webhook.exhausted", "webhook.disabled"]),
        ([failed(0), succeeded(DAY), failed(6 * DAY, is_exhausted=True)], None, ["webhook.exhausted"]),
        ([failed(0, is_gone=True)], "gone", ["webhook.disabled"]),
        ([failed(n) for n in range(3)] + [failed(4, is_gone=True)], "gone", ["webhook.failing", "webhook.disabled"]),
    ],
)
def test_it_is_disabled_when_a_delivery_is_exhausted_after_five_days_of_failures_and_by_410(
    outcomes: list[Outcome], reason: str | None, events: list[str]
) -> None:
    health, seen = fold(*outcomes)
    assert (health.disabled_reason, seen) == (reason, events)
    assert health.disabled_at == (outcomes[-1].ended_at if reason else None)
    assert health.may_try(at(10 * DAY)) is (reason is None)


def test_what_ends_after_it_was_disabled_changes_nothing() -> None:
    gone, _ = fold(failed(0, is_gone=True))
    assert fold(failed(1), failed(2, is_gone=True), succeeded(3), of=gone) == (gone, [])
    assert fold(failed(1, is_exhausted=True), of=gone) == (gone, ["webhook.exhausted"])
