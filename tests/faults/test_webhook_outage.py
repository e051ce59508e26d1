"""A webhook is down for two days while events pile up, and then back: all arrive, and others notice nothing of it."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from ops.soak import EVENTS
from shared import database
from shared.domain.webhooks import health as rules
from shared.domain.webhooks.health import Health, Outcome
from shared.settings import Settings
from shared.store import channels
from tests.bench.figures import percentile
from tests.bench.pace import pace
from tests.support import webhooks
from tests.support.stage import Stage, staged
from tests.support.webhook_receiver import OK, Answer, Receiver, receiving
from tests.support.webhook_stage import Hook

DOWN: Final = Answer(503)
OUTAGE: Final = timedelta(days=2)
PROBE_EVERY: Final = timedelta(minutes=10)
SETTLES: Final = timedelta(minutes=20)  # until the probes have their longest interval
AT_ONCE: Final = 100  # events of one transaction
PILE_UP: Final = 1_000.0  # events a second
OTHERS: Final = 25.0  # events a second of the other tenant
MEGABYTE: Final = 1024**2
NOTICED: Final = 1.5  # times the floor

_JUMP: Final = """
UPDATE webhook_health SET open_until = now(), due_at = now(), first_failed_at = first_failed_at - (open_until - now())
WHERE webhook_id = $1 AND open_until > now()
"""
_NUMBERS: Final = """
SELECT id::text, (payload #>> '{data,data,number}')::int AS number FROM webhook_logs WHERE webhook_id = $1
"""


@dataclass(frozen=True)
class Size:
    """How large a run is. `probes`: as many are observed, the rest of the two days is computed."""

    events: int
    rate: int  # deliveries a second to one webhook
    probes: int
    others: int  # events of the other tenant, in each phase
    within: float  # seconds for all to arrive


@dataclass(frozen=True)
class Seen:
    """What a run shows."""

    p99: dict[str, float]  # milliseconds of the other tenant's deliveries, by phase
    memory: dict[str, int]  # bytes of the worker
    took: float  # seconds until all had arrived


def test_a_url_that_is_down_for_two_days_is_called_once_in_ten_minutes_at_most() -> None:
    dice, health, now = random.Random(1), Health(), datetime(2026, 11, 1, tzinfo=UTC)
    began, calls = now, []
    while now - began < OUTAGE:
        calls.append(now)
        ended = now + timedelta(seconds=15)
        health = rules.after(health, Outcome(now, ended, succeeded=False), dice.random()).health
        now = max(health.open_until or ended, ended)
    later = [call for call in calls if call - began > SETTLES]
    assert len(calls) <= OUTAGE / PROBE_EVERY
    assert all(after - before >= PROBE_EVERY for before, after in pairwise(later))


async def outage(settings: Settings, size: Size) -> Seen:
    """Play it, with the worker as a process of its own."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving(keeps_bodies=False))
        stage = await stack.enter_async_context(staged(settings, **webhooks.LOCAL, webhook_rate=size.rate))
        shop, other = [await add(stage, receiver, path) for path in ("/shop", "/other")]
        receiver.answers("/shop", DOWN)
        await stack.enter_async_context(stage.working("clock"))
        worker = await stack.enter_async_context(stage.running("webhook"))
        p99, memory = {}, {}
        await beside(other, 2 * size.others // 3)  # to warm up
        p99["nothing else"] = await beside(other, size.others)

        first = await happen(shop, 1, min(20, size.events))
        piling_up = asyncio.create_task(happen(shop, first, size.events))
        p99["events pile up"] = await beside(other, size.others, piling_up)
        await stage.until(lambda: matched(shop), equals=size.events, within=size.within)
        p99["they wait"] = await beside(other, size.others)
        calls, passed = await probed(shop, size.probes)
        assert len(calls) <= 5 + stage.settings.webhook_concurrency + size.probes
        memory["down"] = resident(worker.pid)

        receiver.answers("/shop", OK)  # before the time passes: the clock finds at once what that makes due
        before, started = receiver.counts["/shop"], time.monotonic()
        await webhooks.elapse(stage.pool, shop.id, max(timedelta(0), OUTAGE - passed))
        await vacuumed(stage.settings)
        drained = asyncio.create_task(all_came(shop, size, lambda: watched(memory, worker.pid)))
        p99["it catches up"] = await beside(other, size.others, drained)
        took = time.monotonic() - started
        await shop.until(delivered=size.events)
        p99["nothing else any more"] = await beside(other, size.others)
        await by_age(shop, before)
        in_a_second = pace((one.at for one in receiver.at("/shop")[before:]), size.rate).most
        assert in_a_second <= 1.1 * size.rate + 2 * stage.settings.webhook_concurrency, in_a_second
        return Seen(p99, memory, took)


async def all_came(hook: Hook, size: Size, watch: Callable[[], None]) -> None:
    """Return once all have been answered; `watch` is called meanwhile."""
    ids, deadline = hook.receiver.ids[hook.path], time.monotonic() + size.within
    watch()
    while len(ids) < size.events:
        assert time.monotonic() < deadline, f"{len(ids)} of {size.events} after {size.within:g} s"
        await asyncio.sleep(0.2)
        watch()


def watched(memory: dict[str, int], pid: int) -> None:
    memory["most"] = max(memory.get("most", 0), resident(pid))


async def vacuumed(settings: Settings) -> None:
    """Clear away what moving the times has left of the rows, as autovacuum had two days to."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        await connection.execute("VACUUM (ANALYZE) webhook_logs")
    finally:
        await connection.close()


async def add(stage: Stage, receiver: Receiver, path: str) -> Hook:
    """A tenant with a webhook."""
    tenant_id = database.new_id()
    async with stage.pool.acquire() as connection, connection.transaction():
        await channels.add_tenant(connection, tenant_id, path)
    made = await webhooks.add(stage.pool, stage.settings, tenant_id, receiver.url(path), ("other",))
    return Hook(stage, receiver, tenant_id, made.stored.id, path, made.secret)


async def happen(hook: Hook, first: int, last: int) -> int:
    """Commit the events with these numbers, at a steady rate; returns the number behind them."""
    beginning = time.monotonic()
    for number in range(first, last + 1, AT_ONCE):
        await asyncio.sleep(max(0.0, beginning + (number - first) / PILE_UP - time.monotonic()))
        await webhooks.happen(hook.stage.pool, hook.tenant_id, min(AT_ONCE, last + 1 - number), first=number)
    return last + 1


async def matched(hook: Hook) -> int:
    return await hook.stage.count("webhook_logs WHERE webhook_id = $1", hook.id)


async def beside(hook: Hook, count: int, other: asyncio.Task[Any] | None = None) -> float:
    """p99 in milliseconds from commit to receipt of so many events by the clock, and of more until `other` is done."""
    begun: dict[int, float] = {}
    first, already = await matched(hook) + 1, len(hook.receiver.ids[hook.path])
    beginning = time.monotonic()
    async with asyncio.TaskGroup() as committing:
        while len(begun) < count or not (other is None or other.done()):
            number = first + len(begun)
            await asyncio.sleep(max(0.0, beginning + len(begun) / OTHERS - time.monotonic()))
            begun[number] = time.monotonic()
            committing.create_task(webhooks.happen(hook.stage.pool, hook.tenant_id, first=number))
    if other is not None:
        await other
    await hook.receiver.until(lambda: len(hook.receiver.ids[hook.path]) >= already + len(begun), 60)
    numbers = {row["id"]: row["number"] for row in await hook.stage.rows(_NUMBERS, hook.id)}
    came: dict[int, float] = {}
    for one in hook.received():
        came.setdefault(numbers[one.id], one.at)
    return percentile([(came[number] - at) * 1000 for number, at in begun.items()], 0.99)


async def probed(hook: Hook, probes: int) -> tuple[list[float], timedelta]:
    """Let time pass to the next probe again and again; returns the moments of all calls, and how much time passed.

    Between two probes no call is made.
    """
    passed = 0.0
    for _ in range(probes):
        await hook.rests()
        calls = hook.receiver.counts[hook.path]
        wait = (await hook.health())["open_until"] - await hook.stage.value("SELECT now()")
        passed += wait.total_seconds()
        await hook.stage.pool.execute(_JUMP, hook.id)
        await hook.receiver.wait(hook.path, calls + 1)
        await hook.rests()
        assert hook.receiver.counts[hook.path] == calls + 1
        if passed > SETTLES.total_seconds():
            again = (await hook.health())["open_until"] - await hook.stage.value("SELECT now()")
            assert again >= PROBE_EVERY - timedelta(seconds=5)
    return [one.at for one in hook.received()], timedelta(seconds=passed)


async def by_age(hook: Hook, before: int) -> None:
    """Each came once since it is back, the oldest first, but for those that run beside each other and the first one,
    which shows that it is back. So do those that were tried meanwhile."""
    numbers = {row["id"]: row["number"] for row in await hook.stage.rows(_NUMBERS, hook.id)}
    came = [numbers[one.id] for one in hook.received()[before:]]
    assert sorted(came) == list(range(1, len(numbers) + 1))
    at_once = hook.stage.settings.webhook_concurrency
    late = sum(abs(number - place) for place, number in enumerate(came, 1)) / len(came)
    assert late <= 4 * at_once, late
    tried = {numbers[one.id] for one in hook.received()[:before]}
    last = max(place for place, number in enumerate(came, 1) if number in tried)
    assert last <= max(tried) + 4 * at_once, f"the last one that was tried before came as number {last}"


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.mark.soak
async def test_all_that_waited_for_a_webhook_arrives_when_it_is_back(settings: Settings) -> None:
    seen = await outage(settings, Size(2_000, rate=1_000, probes=9, others=25, within=60))
    print(seen)
    assert seen.memory["most"] - seen.memory["down"] < 40 * MEGABYTE


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_a_hundred_thousand_that_waited_arrive_and_others_notice_nothing(settings: Settings) -> None:
    """The floor is what the other tenant's deliveries take in this run before and after it all, on the same machine.

    What else this machine does while it is measured is in the figures: run it alone.
    """
    seen = await outage(settings, Size(int(os.environ[EVENTS]), rate=200, probes=60, others=500, within=1200))
    floor = (seen.p99.pop("nothing else") + seen.p99.pop("nothing else any more")) / 2
    ratios = {phase: round(p99 / floor, 2) for phase, p99 in seen.p99.items()}
    print(f"floor {floor:.1f} ms; {ratios}; {seen}")
    assert seen.memory["most"] - seen.memory["down"] < 40 * MEGABYTE
    assert max(ratios.values()) <= NOTICED, ratios
