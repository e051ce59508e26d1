"""What a process knows of the database's clock and of its own delays, and which slot a call takes."""

import time
from collections import deque
from typing import cast

import pytest

from shared.database import Pool, new_id
from shared.sending import pacer
from shared.sending.pacer import DatabaseClock, Pacer, Queue, SlotTooFar, Turn, UsualTime
from shared.store.rate_limits import Request

NO_POOL = cast(Pool, None)
WANTED = Request(new_id(), new_id(), "bulk", 80.0, 0.2)


@pytest.mark.parametrize(
    ("answers", "at_most"),
    [
        ([(100.0, 0.0, 0.2)], 0.1),  # half of the time that an answer took
        ([(100.0, 0.0, 0.2), (100.955, 1.0, 1.01)], 0.01),  # a quick answer tells it more exactly
        ([(100.955, 1.0, 1.01), (102.05, 2.0, 2.9)], 0.01),  # and a slow one spoils nothing
    ],
)
def test_the_databases_clock_is_known_from_its_answers(
    answers: list[tuple[float, float, float]], at_most: float
) -> None:
    """In each row it is 99.95 seconds ahead."""
    clock = DatabaseClock()
    for now, asked_at, received_at in answers:
        clock.answered(now, asked_at, received_at)
    assert clock.here(199.95) == pytest.approx(100.0, abs=at_most)


def test_a_clock_that_is_set_is_followed_with_the_next_answer() -> None:
    clock = DatabaseClock()
    clock.answered(100.0, 0.0, 0.01)
    clock.answered(90.0, 1.0, 1.01)
    assert clock.here(90.0) == pytest.approx(1.0, abs=0.011)


def test_a_usual_time_follows_what_most_runs_take_and_no_single_one() -> None:
    usual = UsualTime(0.01)
    usual.took(2.0)
    assert usual.seconds < 0.013
    for _ in range(60):
        usual.took(0.2)
    assert 0.15 < usual.seconds < 0.25
    for _ in range(200):
        usual.took(0.004)
    assert usual.seconds < 0.006


def test_a_run_that_missed_its_slot_gives_the_next_ones_more_time_but_not_all_that_a_lock_took() -> None:
    usual = UsualTime(0.01)
    usual.missed(0.03)
    assert usual.seconds == 0.03
    usual.missed(0.02)
    assert usual.seconds == 0.03
    usual.missed(4.0)
    assert usual.seconds == 0.05


async def test_a_call_takes_the_earliest_slot_that_is_left_and_none_that_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacer, "IN_TIME", 10.0)  # that a machine is late by 35 ms shall decide nothing here
    now = time.monotonic()
    slots = [now - pacer.IN_TIME - 0.1, now + 0.05, now + 0.1]
    queue = Queue(turns=3, slots=deque(slots))
    slow, quick, abandoned = (Turn(Pacer(), queue, NO_POOL, WANTED) for _ in range(3))
    assert await quick.slot(1.0) == slots[1]
    assert time.monotonic() >= slots[1]
    abandoned.close()
    assert (queue.turns, len(queue.slots)) == (1, 1)
    assert await slow.slot(1.0) == slots[2]
    slow.close()
    assert queue.turns == 0


async def test_a_claimed_message_leaves_a_slot_that_is_too_far_to_others() -> None:
    queue = Queue(turns=2, slots=deque([time.monotonic() + 1.0]))
    with pytest.raises(SlotTooFar):
        await Turn(Pacer(), queue, NO_POOL, WANTED).slot(0.5)
    assert len(queue.slots) == 1


async def test_a_claimed_message_waits_no_longer_than_it_may_for_another_one_that_asks() -> None:
    queue = Queue(turns=1)
    async with queue.reserving:
        with pytest.raises(SlotTooFar):
            await Turn(Pacer(), queue, NO_POOL, WANTED).slot(0.05)
