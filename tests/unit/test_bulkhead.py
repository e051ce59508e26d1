"""How many calls of a channel a bulkhead lets through, and when a job that found it full asks again."""

from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from shared.resilience.bulkhead import MOST_WAITING, Bulkhead, BulkheadFull, SharedBulkhead, wait_when_full

A, B = UUID(int=1), UUID(int=2)


def test_a_channel_at_its_limit_leaves_the_others_theirs() -> None:
    bulkhead = Bulkhead(2)
    with bulkhead.acquire(A), bulkhead.acquire(A):
        with pytest.raises(BulkheadFull), bulkhead.acquire(A):
            pass
        with bulkhead.acquire(B):
            pass
    with bulkhead.acquire(A), bulkhead.acquire(A):
        pass


def test_a_call_is_free_again_however_it_ended() -> None:
    bulkhead = Bulkhead(1)
    with pytest.raises(RuntimeError), bulkhead.acquire(A):
        raise RuntimeError
    with bulkhead.acquire(A):
        pass


def test_a_limit_is_at_least_one_call() -> None:
    with Bulkhead(0).acquire(A):
        pass


@pytest.mark.parametrize(
    ("waited", "roll", "seconds"),
    [
        (0, 0.5, 2.0),
        (10, 0.5, 7.0),
        (56, 0.5, 30.0),
        (86_400, 0.5, 30.0),
        (0, 0.0, 1.6),
        (86_400, 1.0, 36.0),
        (-1, 0.5, 2.0),  # the clock was set back
    ],
)
def test_the_longer_it_has_waited_the_later_it_asks_again(waited: float, roll: float, seconds: float) -> None:
    assert wait_when_full(timedelta(seconds=waited), roll).total_seconds() == pytest.approx(seconds)


# -- shared by all channels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "limit", "each_at_most", "free_at_least"), [(1, 64, 32, 32), (2, 64, 32, 16), (20, 64, 32, 1)]
)
def test_however_many_channels_hang_a_call_is_free_for_the_next_one(
    channels: int, limit: int, each_at_most: int, free_at_least: int
) -> None:
    bulkhead: SharedBulkhead[str] = SharedBulkhead(limit)
    acquired = [0] * channels
    with ExitStack() as stack:
        for turn in range(limit * channels):
            number = turn % channels
            try:
                stack.enter_context(bulkhead.acquire(UUID(int=number + 1)))
            except BulkheadFull:
                continue
            acquired[number] += 1
        assert max(acquired) <= each_at_most
        assert limit - sum(acquired) >= free_at_least
        assert min(acquired) > 0
        with bulkhead.acquire(UUID(int=1000)):
            pass
    with bulkhead.acquire(UUID(int=1)):
        pass


def test_what_found_the_bulkhead_full_is_next_once_each_in_order_of_request() -> None:
    bulkhead: SharedBulkhead[str] = SharedBulkhead(2)
    for what in ("first", "second", "first"):
        bulkhead.remember(A, what)
    bulkhead.remember(B, "another channel's")
    assert [bulkhead.next(A), bulkhead.next(A), bulkhead.next(A)] == ["first", "second", None]
    assert [bulkhead.next(B), bulkhead.next(B)] == ["another channel's", None]


def test_no_more_is_remembered_than_fits() -> None:
    bulkhead: SharedBulkhead[int] = SharedBulkhead(2)
    for number in range(MOST_WAITING + 5):
        bulkhead.remember(A, number)
    remembered = 0
    while bulkhead.next(A) is not None:
        remembered += 1
    assert remembered == MOST_WAITING
