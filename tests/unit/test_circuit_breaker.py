"""When the circuit breaker of a worker or of a channel opens, what it tries meanwhile, and what closes it."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.resilience.circuit_breaker import (
    JOBS_PER_INTERVAL,
    MOST_SCOPES,
    NO_SCOPE,
    CircuitBreaker,
    CircuitBreakers,
    Scope,
    several_tenants_fail,
)

TRIAL = 60.0


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def breaker_after(outcomes: str, *, share: float = 0.5, window: int = 10, clock: Clock | None = None) -> CircuitBreaker:
    """A circuit breaker after these jobs: d is done, x failed permanently."""
    breaker = CircuitBreaker(share=share, window=window, trial=TRIAL, now=clock or Clock())
    for outcome in outcomes:
        breaker.record(failed=outcome == "x")
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "is_open"),
    [
        ("", False),
        ("x" * 9, False),  # too few to judge by
        ("x" * 10, True),
        ("d" * 100, False),
        ("d" * 100 + "x" * 5, False),  # half is not more than half
        ("d" * 100 + "x" * 6, True),
        ("dx" * 50, False),
        ("dxx" * 4, True),
        ("x" * 5 + "d" * 100 + "x" * 5, False),  # long ago does not count
    ],
)
def test_it_opens_when_more_than_its_share_of_the_last_jobs_failed(outcomes: str, is_open: bool) -> None:
    assert breaker_after(outcomes).open is is_open


@pytest.mark.parametrize(
    ("share", "failures", "is_open"), [(0.1, 1, False), (0.1, 2, True), (0.9, 9, False), (0.9, 10, True)]
)
def test_the_share_is_a_setting(share: float, failures: int, is_open: bool) -> None:
    assert breaker_after("d" * (10 - failures) + "x" * failures, share=share).open is is_open


def test_while_it_is_closed_no_job_waits() -> None:
    assert [breaker_after("dd").wait() for _ in range(3)] == [0.0] * 3


def test_while_it_is_open_one_job_is_tried_each_interval() -> None:
    clock = Clock()
    breaker = breaker_after("x" * 10, clock=clock)
    assert breaker.wait() == TRIAL
    clock.seconds += 59
    assert breaker.wait() == pytest.approx(1)
    clock.seconds += 1
    assert breaker.wait() == 0
    assert breaker.wait() == TRIAL  # the trial is reserved
    breaker.record(failed=True)
    assert breaker.open
    clock.seconds += 1000  # however long no job came, it is one trial
    assert (breaker.wait(), breaker.wait()) == (0, TRIAL)


def test_one_success_closes_it_and_earlier_failures_are_forgotten() -> None:
    breaker = breaker_after("x" * 10 + "d")
    assert not breaker.open
    assert breaker.wait() == 0
    for _ in range(9):
        breaker.record(failed=True)
    assert not breaker.open
    breaker.record(failed=True)
    assert breaker.open


@given(st.lists(st.booleans(), max_size=200), st.integers(5, 50))
def test_it_never_opens_while_most_jobs_succeed(failures: list[bool], window: int) -> None:
    breaker = CircuitBreaker(share=0.5, window=window, trial=TRIAL, now=Clock())
    last: list[bool] = []
    for failed in failures:
        was_open = breaker.open
        breaker.record(failed=failed)
        last = [*last, failed][-window:]
        if breaker.open and not was_open:
            assert sum(last) > window / 2


A, B, C = (Scope(UUID(int=tenant), UUID(int=1)) for tenant in (1, 2, 3))
SECOND = Scope(A.tenant, UUID(int=2))  # of A's


def breakers(clock: Clock | None = None, *, window: int = 10, longest: float = 600.0) -> CircuitBreakers:
    return CircuitBreakers(share=0.5, window=window, trial=TRIAL, longest=longest, now=clock or Clock())


@pytest.mark.parametrize(
    ("finished", "opens"),
    [
        ("A" * 10, False),  # one tenant's, however many
        ("A" * 9 + "B", False),  # one failure of another tenant's may be an accident
        ("A" * 8 + "BB", True),
        ("A" * 7 + "Bbb", False),  # most of the others' succeed
        ("AAAAABBBBB", True),
        ("AAAABBccccc"[:10], False),
        ("?" * 10, True),  # without a tenant: a job that can't be read is no tenant's fault
        ("A" * 8 + "??", True),
        ("aaaaaaaaaa", False),
    ],
)
def test_the_worker_stops_only_where_jobs_of_several_tenants_fail(finished: str, opens: bool) -> None:
    """A capital is a failed job of the tenant with this letter."""
    outcomes = [(None if letter == "?" else letter.upper(), letter.isupper() or letter == "?") for letter in finished]
    assert several_tenants_fail(outcomes, 0.5) is opens


def test_the_breaker_of_one_channel_opens_and_those_of_its_tenants_others_do_not() -> None:
    some = breakers()
    changes = [some.record(A, failed=True) for _ in range(10)]
    assert (changes, set(some.open_scopes), some.worker.open) == ([None] * 9 + ["opened"], {A}, False)
    for _ in range(10):
        some.record(SECOND, failed=False)
        some.record(B, failed=False)
    assert (set(some.open_scopes), some.worker.open) == ({A}, False)


def test_one_job_of_an_open_channel_is_tried_each_interval_and_one_success_closes_it() -> None:
    clock = Clock()
    some = breakers(clock)
    for _ in range(10):
        some.record(A, failed=True)
    assert some.wait(A) == TRIAL
    clock.seconds += TRIAL
    assert (some.wait(A), some.wait(A)) == (None, TRIAL)
    assert some.record(A, failed=True) is None
    clock.seconds += TRIAL
    assert some.wait(A) is None
    assert (some.record(A, failed=False), set(some.open_scopes)) == ("closed", set())


def test_the_more_jobs_wait_the_later_they_come_back() -> None:
    some = breakers(longest=200.0)
    for _ in range(10):
        some.record(A, failed=True)
    waits = [some.wait(A) for _ in range(3 * JOBS_PER_INTERVAL)]
    assert (waits[0], waits[JOBS_PER_INTERVAL], waits[-1]) == (TRIAL, 2 * TRIAL, 200.0)


def test_where_all_jobs_fail_the_worker_stops_before_the_breaker_of_a_channel_opens() -> None:
    some = breakers()
    for turn in range(10):
        some.record((A, B, C)[turn % 3], failed=True)
    assert (some.worker.open, set(some.open_scopes)) == (True, set())


def test_trials_that_fail_do_not_stop_the_worker() -> None:
    some = breakers()
    for scope in (A, B):
        for _ in range(5):
            some.record(C, failed=False)
        for _ in range(10):
            some.record(C, failed=False)
            some.record(scope, failed=True)
    assert set(some.open_scopes) == {A, B}
    for _ in range(100):
        some.record(A, failed=True)
        some.record(B, failed=True)
    assert not some.worker.open


def test_what_is_remembered_of_channels_is_bounded_and_of_healthy_ones_nothing() -> None:
    some = breakers()
    for number in range(2 * MOST_SCOPES):
        some.record(Scope(UUID(int=number), None), failed=True)
        some.worker.open = False
    assert len(some._scopes) == MOST_SCOPES
    some = breakers()
    some.record(A, failed=True)
    for _ in range(10):
        some.record(A, failed=False)
    some.record(NO_SCOPE, failed=True)
    assert not some._scopes
