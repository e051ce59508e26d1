"""Holds back events to which nobody was bound a moment ago. No I/O.

AMQP tells who is bound only in its answer to a publish: the broker returns a `mandatory` message that no queue takes.
So a name whose events came back is not published for HOLD seconds. Its events wait meanwhile, and then leave together:
a consumer that has bound its queue in between gets them late, and misses none.
"""

from collections.abc import Mapping, Sequence
from math import inf

from shared.queue.jobs import EventHappened

HOLD = 1.0  # seconds; a new binding's first events are late by this much at most
MOST_HELD = 1000  # events; no longer wait, for their memory
RARE = 600.0  # seconds in which the broker took no event; then all events may wait for HOLD seconds


class Unbound:
    """The names that nobody is bound to, and the events of these names that wait, in their order.

    Times are seconds of any one clock.
    """

    def __init__(self) -> None:
        self.held: list[EventHappened] = []
        self._names: set[str] = set()
        self._until = inf  # when the held events leave, and every name is tried again
        self._returned = False  # whether any event came back yet
        self._taken_at = -inf  # when the broker last took an event

    def ready(self, batch: Sequence[EventHappened]) -> list[EventHappened]:
        """The events to publish now; the others are held."""
        if not self._names:
            return list(batch)
        self.held += [event for event in batch if event.name in self._names]
        return [event for event in batch if event.name not in self._names]

    def answered(self, bound: Mapping[str, bool], now: float) -> None:
        """Note what the broker answered to a publish: each name, and whether anybody is bound to it."""
        if any(bound.values()):
            self._taken_at = now
        if returned := {name for name, is_bound in bound.items() if not is_bound}:
            self._returned = True
            self._names |= returned
            self._until = min(self._until, now + HOLD)

    def due(self, now: float) -> bool:
        """Whether the held events are to leave now."""
        return now >= self._until or len(self.held) >= MOST_HELD

    def release(self) -> dict[str, list[EventHappened]]:
        """The held events by name. From now on none is held, and every name is tried again."""
        by_name: dict[str, list[EventHappened]] = {}
        for event in self.held:
            by_name.setdefault(event.name, []).append(event)
        self.held, self._names, self._until = [], set(), inf
        return by_name

    def wait(self, now: float) -> float:
        """Seconds until the held events leave."""
        return max(0.0, self._until - now)

    def nobody(self, now: float) -> bool:
        """Whether nobody seems to be bound to any event at all."""
        return self._returned and now - self._taken_at > RARE
