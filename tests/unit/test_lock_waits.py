"""Only the tenant that holds a lock waits: how long, and for how long it is remembered."""

from uuid import UUID

import pytest

from shared.resilience.lock_waits import MOST_TENANTS, REMEMBERED, Locked, LockWaits, give_way

THEIRS, OURS = UUID(int=1), UUID(int=2)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_tenants_next_tries_come_later_each_time_and_nobody_elses() -> None:
    clock = Clock()
    waits = LockWaits(clock)
    pauses = []
    for _ in range(7):
        pauses.append(waits.in_vain(THEIRS))
        assert (waits.wait(THEIRS), waits.wait(OURS), waits.wait(None)) == (pauses[-1], 0.0, 0.0)
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_of_those_that_wait_one_is_tried_at_a_time() -> None:
    clock = Clock()
    waits = LockWaits(clock)
    waits.in_vain(THEIRS)
    clock.now += 1
    assert (waits.wait(THEIRS), waits.wait(THEIRS)) == (0.0, 1.0)


def test_what_was_under_way_already_makes_nobody_wait_longer() -> None:
    waits = LockWaits(Clock())
    assert [waits.in_vain(THEIRS) for _ in range(8)] == [1.0] * 8


def test_one_that_goes_through_lets_the_next_go_at_once_and_apart_for_a_minute() -> None:
    clock = Clock()
    waits = LockWaits(clock)
    waits.in_vain(THEIRS)
    waits.went_through(THEIRS)
    waits.went_through(OURS)
    assert (waits.wait(THEIRS), waits.wait(THEIRS)) == (0.0, 0.0)
    assert (THEIRS in waits, OURS in waits, None in waits) == (True, False, False)
    clock.now += 1 + REMEMBERED
    assert THEIRS not in waits
    assert waits.in_vain(THEIRS) == 1.0


def test_no_more_tenants_are_remembered_than_memory_is_for() -> None:
    waits, tenants = LockWaits(Clock()), MOST_TENANTS + 10
    for tenant in range(tenants):
        waits.in_vain(UUID(int=tenant))
    assert sum(UUID(int=tenant) in waits for tenant in range(tenants)) == MOST_TENANTS


def test_what_began_before_another_one_waited_in_vain_gives_way_and_nobody_elses() -> None:
    clock = Clock()
    waits = LockWaits(clock)
    with waits.handling(THEIRS):
        clock.now += 1.5
        give_way()
        waits.in_vain(THEIRS)
        with pytest.raises(Locked) as gave_way:
            give_way()
        assert gave_way.value.after == 1.0
        with waits.handling(THEIRS):  # it was its turn
            give_way()
        for another in (OURS, None):
            with waits.handling(another):
                give_way()
    give_way()
