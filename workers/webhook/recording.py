"""Records how attempts ended: the log, the webhook's health, the next in order, and the events that tell of it.

Many at once, of many webhooks. Where a tenant's session locks rows, its attempts are recorded apart.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from shared.database import Connection
from shared.domain.event_json import moment
from shared.domain.webhooks import health as rules
from shared.domain.webhooks.health import OPENS_AT, Change, Outcome
from shared.domain.webhooks.matching import leads_to_events
from shared.domain.webhooks.schedule import after_failure
from shared.process import metrics
from shared.store.events import Detail, Event
from shared.store.events import record as record_events
from shared.store.webhook_deliveries import outcomes
from shared.store.webhook_deliveries.facts import Key
from shared.store.webhook_deliveries.matching import OVERTAKEN_AFTER, Talk
from shared.store.webhook_deliveries.outcomes import Ended, LockedHealth
from shared.store.webhook_deliveries.turns import Attempt
from workers.webhook.resources import Answer

PAUSING: Final = (429, 503)  # with Retry-After they pause the webhook
PROXY: Final = "proxy"  # the operator's can't be used: the URL is not to blame, and no delivery is given up for it
PROXY_WAIT: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Result:
    """An attempt that was made."""

    attempt: Attempt
    answer: Answer
    started_at: datetime
    ended_at: datetime
    ms: int

    @property
    def succeeded(self) -> bool:
        return self.answer.error is None

    @property
    def key(self) -> Key:
        return self.attempt.tenant_id, self.attempt.webhook_id

    @property
    def row(self) -> Key:
        return self.attempt.tenant_id, self.attempt.delivery_id

    @property
    def talk(self) -> Talk | None:
        if self.attempt.sequence is None or self.attempt.conversation_id is None:
            return None
        return *self.key, self.attempt.conversation_id


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording has made of a webhook."""

    health: LockedHealth
    recovered: bool  # it was failing until now


async def record(tx: Connection, results: Sequence[Result], *, wait: bool) -> list[Recorded | None]:
    """Record results in the caller's transaction; None for those that were left out as another session locks them.

    With `wait` it waits for locks, and what is left out is gone: its tenant has deleted it.
    """
    rows = await outcomes.lock_rows(tx, (result.row for result in results), wait=wait)
    healths, locked = await _healths(tx, results, wait=wait)
    known = [one for one in results if one.key in healths and (wait or one.row in rows)]
    ended: list[Ended] = []
    to_tell: list[Event] = []
    recovered: set[Key] = set()
    for result in sorted(known, key=lambda result: result.ended_at):
        before = healths[result.key]
        one = _ended(result)
        after, names = _fold(before, result, one)
        healths[result.key] = after
        if "webhook.recovered" in names:
            recovered.add(result.key)
        if result.row in rows:
            ended.append(one)
            to_tell += _events(result, one, names, max(before.health.failures, after.health.failures), after)
    talks = {talk for one in ended if (talk := _moved(one)) is not None}
    if talks:
        await outcomes.lock_talks(tx, talks)
    if ended:
        await outcomes.record(tx, ended)
    if talks:
        await outcomes.free_next(tx, talks)
    changed = {key: healths[key] for key, before in locked.items() if healths[key] != before}
    if changed:
        await outcomes.write_health(tx, changed)
    for key in sorted(recovered):
        await outcomes.pull_in(tx, key)
    await record_events(tx, *to_tell)
    left_out = {id(one) for one in results} - {id(one) for one in known}
    return [None if id(one) in left_out else Recorded(healths[one.key], one.key in recovered) for one in results]


async def _healths(
    tx: Connection, results: Sequence[Result], *, wait: bool
) -> tuple[dict[Key, LockedHealth], Mapping[Key, LockedHealth]]:
    """How the webhooks do, and those of them that are locked.

    A webhook that does well is not locked for results that are all good: they change nothing of it, and matching or its
    tenant may have locked it.
    """
    failed = {result.key for result in results if not result.succeeded}
    only_good = {result.key for result in results} - failed
    well = await outcomes.healthy(tx, only_good) if only_good else set()
    others = failed | (only_good - well)
    locked = await outcomes.lock_health(tx, others, wait=wait) if others else {}
    return {**dict.fromkeys(well, LockedHealth()), **locked}, locked


def count(results: Sequence[Result]) -> None:
    """Count recorded results in the metrics."""
    outcomes_of = Counter(
        (one.attempt.kind, "delivered" if one.succeeded else one.answer.error or "status") for one in results
    )
    for (kind, outcome), many in outcomes_of.items():
        metrics.WEBHOOK_ATTEMPTS.labels(kind, outcome).inc(many)
    for result in results:
        if result.succeeded and result.attempt.kind == "delivery":
            age = (result.ended_at - result.attempt.created_at).total_seconds()
            metrics.WEBHOOK_SECONDS.observe(max(0.0, age))


def _ended(result: Result) -> Ended:
    """What the row says after the attempt."""
    attempt, answer = result.attempt, result.answer
    text = answer.body.decode(errors="replace").replace("\0", "")
    success: bool | None = True
    due_at: datetime | None = None
    if not result.succeeded:
        success = False
        if attempt.kind == "delivery" and answer.error != "gone":
            age = result.ended_at - attempt.created_at
            wait = after_failure(attempt.attempts + 1, age, answer.retry_after, random.random())
            if wait is None and answer.error == PROXY:
                wait = PROXY_WAIT
            success, due_at = (False, None) if wait is None else (None, result.ended_at + wait)
    entry: dict[str, Any] = {
        "number": attempt.number,
        "at": moment(result.started_at),
        "ended_at": moment(result.ended_at),
        "status": answer.status,
        "ms": result.ms,
        "response": text,
        "error": answer.error,
        "kind": attempt.kind,
    }
    if answer.sent_again is not None:
        entry["sent_again_at"] = moment(result.started_at + timedelta(seconds=answer.sent_again))
    return Ended(attempt, entry, text, answer.status, answer.error, success, due_at, result.ended_at)


def _fold(before: LockedHealth, result: Result, ended: Ended) -> tuple[LockedHealth, tuple[str, ...]]:
    """How the webhook does after the result, and the events that tell of it. Replays and tests count apart."""
    attempt, answer = result.attempt, result.answer
    if answer.error == PROXY:
        return before, ()
    if attempt.kind != "delivery":
        return _replayed(before, result), ()
    outcome = Outcome(
        result.started_at,
        result.ended_at,
        result.succeeded,
        is_gone=answer.error == "gone",
        is_exhausted=ended.success is False and answer.error != "gone",
        pause=answer.retry_after if answer.status in PAUSING else None,
    )
    change: Change = rules.after(before.health, outcome, random.random())
    after = replace(before, health=change.health)
    if result.succeeded:
        after = replace(after, replay_failures=0, replay_open_until=None)
    return after, change.events


def _replayed(before: LockedHealth, result: Result) -> LockedHealth:
    """Many replays of a URL that is down wait for each other as probes do."""
    if result.succeeded:
        return replace(before, replay_failures=0, replay_open_until=None)
    failures = before.replay_failures + 1
    if failures < OPENS_AT:
        return replace(before, replay_failures=failures)
    step = rules.PROBES[min(failures - OPENS_AT, len(rules.PROBES) - 1)]
    until = result.ended_at + timedelta(seconds=step)
    return replace(before, replay_failures=failures, replay_open_until=until)


def _moved(ended: Ended) -> Talk | None:
    """The conversation in which the next delivery may be free now."""
    attempt = ended.attempt
    if attempt.sequence is None or attempt.conversation_id is None:
        return None
    is_over = ended.success is not None or attempt.attempts + 1 >= OVERTAKEN_AFTER
    return (attempt.tenant_id, attempt.webhook_id, attempt.conversation_id) if is_over else None


def _events(result: Result, ended: Ended, names: Sequence[str], failures: int, after: LockedHealth) -> list[Event]:
    """`webhook.triggered` for each event that is delivered for the first time, and what a change of health leads to.

    What tells of deliveries leads to no more of its kind, or each would be followed by another one.
    """
    attempt = result.attempt
    about: dict[str, str | int | float | bool | None] = {
        "webhook_id": str(attempt.webhook_id),
        "log_id": str(attempt.delivery_id),
        "event": attempt.event[:128],
        "status": result.answer.status,
    }
    found: list[tuple[str, Detail]] = []
    if ended.success and attempt.kind != "test" and not attempt.was_delivered and leads_to_events(attempt.event):
        found.append(("webhook.triggered", about))
    for name in names:
        if name == "webhook.disabled":
            reason = {"webhook_id": about["webhook_id"], "reason": after.health.disabled_reason, "failures": failures}
            found.append((name, reason))
        elif name != "webhook.exhausted" or leads_to_events(attempt.event):
            found.append((name, {**about, "error": result.answer.error, "failures": failures}))
    return [
        Event(name, attempt.tenant_id, detail={key: value for key, value in detail.items() if value is not None})
        for name, detail in found
    ]
