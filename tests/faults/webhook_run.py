"""Webhooks while everything is killed: which points a worker dies at, and what must hold at the end.

A receiver in the test plays three systems of one tenant: one that is well but for chance, one that wants the events of
each conversation in order, and one that is down until all else is done.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from tests.faults import verdicts
from tests.faults.staging import System
from tests.support import webhooks
from tests.support.webhook_receiver import DROP, OK, Answer, Received, Receiver

# Around each transaction, each call and each publish: tests/support/dying.py has them.
POINTS: Final = (
    "webhook matching", "webhook matched", "webhook claimed", "webhook noted", "webhook answered", "webhook recording",
    "webhook recorded", "webhook released",
)  # fmt: skip
PATHS: Final = ("/well", "/order", "/down")
DOWN: Final = Answer(503)
AT_ONCE: Final = 10  # events of one transaction
TALKS: Final = 5
OVERTAKEN_AFTER: Final = 3  # failed attempts
HASTEN_EVERY: Final = 0.5  # seconds

_EVENTS: Final = "SELECT (detail->>'number')::int AS number FROM events WHERE name = $1"
_OWED: Final = "SELECT count(*) FROM webhook_logs WHERE webhook_id = $1 AND success IS NOT TRUE"
_LOG: Final = "SELECT id, payload, success, attempts, sequence FROM webhook_logs WHERE webhook_id = $1"


@dataclass(frozen=True)
class Run:
    """The system, the receiver, and the webhook of each path."""

    system: System
    receiver: Receiver
    ids: Mapping[str, UUID]
    talks: Sequence[UUID]

    # -- events ----------------------------------------------------------------------------------------------------

    async def happen(self, first: int) -> None:
        """Commit AT_ONCE events, each once, whatever fails meanwhile."""
        stage = self.system.stage
        while True:
            try:
                await webhooks.happen(
                    stage.pool, stage.ours.tenant_id, AT_ONCE, first=first, channel_id=stage.ours.id,
                    conversation_id=self.talks[first // AT_ONCE % TALKS],
                )  # fmt: skip
            except Exception:
                await asyncio.sleep(0.2)
            if first in {row["number"] for row in await self.system.rows(_EVENTS, webhooks.NAME)}:
                return

    # -- the end ---------------------------------------------------------------------------------------------------

    async def all_arrive(self, count: int, within: float) -> float:
        """Wait until each event has been delivered to each webhook; failed ones are tried again at once."""
        started = time.monotonic()
        while True:
            owed = {path: int(str(await self.system.value(_OWED, one))) for path, one in self.ids.items()}
            arrived = {path: len(self.receiver.ids[path]) for path in PATHS}
            if not any(owed.values()) and all(arrived[path] >= count for path in PATHS):
                return time.monotonic() - started
            assert time.monotonic() - started < within, f"owed: {owed}, of {count} arrived: {arrived}"
            for one in self.ids.values():
                await webhooks.hasten(self.system.stage.pool, one)
            await asyncio.sleep(HASTEN_EVERY)

    async def verdict(self, count: int) -> str:
        """What must hold in the end; returns a line of figures. Raises AssertionError."""
        happened = Counter(row["number"] for row in await self.system.rows(_EVENTS, webhooks.NAME))
        assert happened == Counter(range(1, count + 1)), "the test's own events are wrong"
        requests = unfinished = 0
        for path, webhook_id in self.ids.items():
            log = {str(row["id"]): dict(row) for row in await self.system.rows(_LOG, webhook_id)}
            received = self.receiver.at(path)
            _each_once_under_one_id(log, received, count)
            _each_attempt_is_logged(log, received)
            requests += len(received)
            unfinished += sum(one["ended_at"] is None for row in log.values() for one in row["attempts"])
            if path == "/order":
                _in_order(log, received)
        await verdicts.no_dead_letters(self.system)
        return f"{count} events to {len(PATHS)} webhooks, {requests} requests, {unfinished} attempts without an end"


def _each_once_under_one_id(log: Mapping[str, Any], received: Sequence[Received], count: int) -> None:
    """One row for each event, its id the one under which it came; all delivered."""
    numbers = {identity: webhooks.number_of(row["payload"]) for identity, row in log.items()}
    assert Counter(numbers.values()) == Counter(range(1, count + 1))
    assert all(row["success"] for row in log.values())
    came: defaultdict[int, set[str]] = defaultdict(set)
    for one in received:
        came[webhooks.number_of(one.json())].add(one.id)
    assert came == {number: {identity} for identity, number in numbers.items()}
    assert {one.id for one in received if one.succeeded} == log.keys()


def _each_attempt_is_logged(log: Mapping[str, Any], received: Sequence[Received]) -> None:
    """The log has each request; those with an answer are those that came with it.

    An attempt is two requests where the log says that it was sent again. One without an end has a process that was
    killed: nobody could tell of the second.
    """
    requests = Counter(one.id for one in received)
    for identity, row in log.items():
        attempts = row["attempts"]
        logged = len(attempts) + sum("sent_again_at" in one or one["ended_at"] is None for one in attempts)
        assert requests[identity] <= logged, f"{requests[identity]} requests, in the log {attempts}"
        assert [one["number"] for one in attempts] == list(range(1, len(attempts) + 1))
        statuses = Counter(one["status"] for one in attempts if one["status"] is not None)
        given = Counter(one.answered.status for one in received if one.id == identity and one.answered.fault is None)
        assert statuses <= given, f"{identity}: {statuses} in the log, {given} given"


def _in_order(log: Mapping[str, Any], received: Sequence[Received]) -> None:
    """In each conversation none is delivered before its forerunner, unless that has failed three times."""
    reached: dict[object, int] = defaultdict(int)
    seen: set[str] = set()
    for one in received:
        if not one.succeeded or one.id in seen:
            continue
        seen.add(one.id)
        body: Any = one.json()
        sequence, talk = body["sequence"], body["data"]["conversationId"]
        failures = sum(attempt["error"] is not None for attempt in log[one.id]["attempts"])
        assert sequence > reached[talk] or failures >= OVERTAKEN_AFTER, f"{sequence} after {reached[talk]}"
        reached[talk] = max(reached[talk], sequence)


def chance(seed: object) -> Any:
    """What a system does that is well: some answers are late, few are errors or get lost."""
    dice = random.Random(str(seed))

    def decide(_: Received) -> Answer:
        roll = dice.random()
        if roll < 0.03:
            return Answer(500)
        if roll < 0.05:
            return DROP
        return Answer(delay=0.1) if roll < 0.15 else OK

    return decide
