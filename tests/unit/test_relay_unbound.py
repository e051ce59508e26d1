"""Which events the relay holds back, because nobody was bound to their names a moment ago."""

from datetime import UTC, datetime
from uuid import UUID

from shared.queue.jobs import EventHappened
from workers.relay.unbound import HOLD, MOST_HELD, RARE, Unbound


def event(name: str, seq: int = 0) -> EventHappened:
    return EventHappened(xid=1, seq=seq, name=name, tenant_id=UUID(int=1), occurred_at=datetime.now(UTC))


def test_an_event_that_nobody_was_bound_to_waits_with_its_like_and_the_others_do_not() -> None:
    unbound = Unbound()
    first = [event("a", 1), event("b", 2)]
    assert unbound.ready(first) == first, "nothing is known of these names"
    unbound.answered({"a": False, "b": True}, now=0)
    second = [event("a", 3), event("b", 4), event("c", 5), event("a", 6)]
    assert unbound.ready(second) == [second[1], second[2]]
    assert unbound.held == [second[0], second[3]]


def test_what_is_held_leaves_after_a_second_whichever_name_came_back_last() -> None:
    unbound = Unbound()
    unbound.answered({"a": False}, now=10)
    unbound.ready([event("a", 1)])
    unbound.answered({"b": False}, now=10.9)
    unbound.ready([event("b", 2), event("a", 3)])
    assert not unbound.due(10.9)
    assert 0 < unbound.wait(10.9) < 0.2
    assert unbound.due(10 + HOLD)
    assert {name: [one.seq for one in events] for name, events in unbound.release().items()} == {"a": [1, 3], "b": [2]}
    assert unbound.held == []
    assert not unbound.due(10 + HOLD)
    again = [event("a", 4)]
    assert unbound.ready(again) == again, "each name is tried again"


def test_a_burst_does_not_wait_for_the_second_to_end() -> None:
    unbound = Unbound()
    unbound.answered({"a": False}, now=0)
    unbound.ready([event("a", n) for n in range(MOST_HELD - 1)])
    assert not unbound.due(0.1)
    unbound.ready([event("a", MOST_HELD)])
    assert unbound.due(0.1)


def test_somebody_is_listening_until_no_event_was_taken_for_a_while() -> None:
    unbound = Unbound()
    assert not unbound.nobody(0), "no event has come back"
    unbound.answered({"a": True, "b": False}, now=0)
    assert not unbound.nobody(RARE)
    assert unbound.nobody(RARE + 1)
    unbound.release()
    assert unbound.nobody(RARE + 1), "though no name is held back now"
    unbound.answered({"c": True}, now=RARE + 2)
    assert not unbound.nobody(RARE + 3)
