"""How many calls of a webhook run at once: few while it is silent, and places that hanging ones can't take."""

from uuid import uuid4

from workers.webhook.pace import AT_FIRST, PATIENCE, WHILE_SILENT, Pace, Paces, Places

MOST, RATE = 16, 200


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def known(clock: Clock, *, seconds: float = 0.01) -> Pace:
    """The pace of a webhook that has answered many calls, each after so many seconds."""
    pace = Pace(MOST, RATE, AT_FIRST, clock)
    for _ in range(60):
        pace.answered(seconds)
        pace.ended(True)
    return pace


def test_a_webhook_that_answers_has_more_calls_at_once_each_time() -> None:
    clock = Clock()
    pace = Paces(MOST, RATE, clock).of((uuid4(), uuid4()), 0)
    assert pace.room(0) == AT_FIRST
    for _ in range(AT_FIRST):
        pace.answered(0.01)
        pace.ended(True)
    assert pace.room(0) == 2 * AT_FIRST
    assert known(clock).room(0) == MOST


def test_one_that_has_failed_begins_with_one() -> None:
    assert Paces(MOST, RATE, Clock()).of((uuid4(), uuid4()), 1).room(0) == 1


def test_while_none_of_its_calls_is_answered_few_are_under_way() -> None:
    clock = Clock()
    pace = known(clock)
    assert pace.room(0) == MOST
    clock.now += 0.9 * PATIENCE
    assert pace.room(1) == MOST - 1
    clock.now += 0.2 * PATIENCE
    assert pace.room(1) == WHILE_SILENT - 1
    assert pace.room(WHILE_SILENT) == 0
    assert pace.room(MOST) <= 0
    pace.answered(1.5)
    assert pace.room(1) == MOST - 1


def test_a_call_that_begins_when_nothing_was_under_way_has_all_its_time() -> None:
    clock = Clock()
    pace = known(clock)
    clock.now += 3600
    assert pace.room(0) == MOST
    assert pace.is_proven
    clock.now += 0.9 * PATIENCE
    assert pace.room(1) == MOST - 1


def test_a_webhook_that_is_slow_is_not_silent() -> None:
    clock = Clock()
    pace = known(clock, seconds=4.0)
    assert pace.room(0) == MOST
    clock.now += 8.0
    assert pace.room(4) == MOST - 4


def test_a_webhook_is_proven_by_its_last_call() -> None:
    pace = Pace(MOST, RATE, AT_FIRST, Clock())
    assert not pace.is_proven
    pace.answered(0.1)
    assert pace.is_proven
    pace.timed_out()
    assert not pace.is_proven


def test_the_rate_bounds_what_begins() -> None:
    clock = Clock()
    pace = known(clock)
    pace.use(RATE)
    assert pace.room(0) <= 0
    clock.now += 1
    assert pace.room(0) == MOST


def test_webhooks_that_hang_leave_places_to_those_that_answer() -> None:
    places = Places(100)
    for _ in range(1000):
        tenant = uuid4()
        places.enter(tenant, min(1, places.free_for(tenant, proven=False)))
    assert places.free_for(uuid4(), proven=False) == 0
    assert places.free_for(uuid4(), proven=True) == 25


def test_a_tenant_may_have_as_many_places_as_it_leaves_free() -> None:
    places, one, other = Places(100), uuid4(), uuid4()
    while places.free_for(one, proven=True):
        places.enter(one)
    assert places.free_for(other, proven=True) == 50
    for _ in range(50):
        places.leave(one)
    assert places.free_for(one, proven=True) == 100
