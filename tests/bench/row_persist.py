"""Row 2: webhooks a second that one `python -m workers persist` commits.

The webhooks lie in the queue before it starts, in envelopes as 64 connections to ingress make them. Held against the
slower of two floors: taking and acking one message for each webhook, and inserting one row for each.
"""

import asyncio
import time
from dataclasses import dataclass
from itertools import accumulate

import asyncpg

from ops.errors import Problem
from shared.queue import topology
from tests.bench import queues
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, middle_rate
from tests.bench.webhooks import CUSTOMERS, bodies, senders

ROW = "persist"
WEBHOOKS = 20_000  # a round
FLOOR_QUEUE = "floor"
WITHIN = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Committed:
    rate: float  # webhooks a second
    envelopes: int
    peak: int | None  # bytes


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a webhook is missing afterwards."""
    broker, our_broker, database = arena.vhost("persist-floor"), arena.vhost("persist"), arena.database("persist_floor")
    consumed, inserted, ours = [], [], []
    for number in range(rounds + 1):
        count = WEBHOOKS if number else WEBHOOKS // 5
        figures = (
            await _consumed(arena, broker, count),
            await _inserted(arena, database, count),
            await _committed(arena, our_broker, count),
        )
        if number:  # the first was to warm up
            consumed.append(figures[0])
            inserted.append(figures[1])
            ours.append(figures[2])
        advance()
    slower = [min(pair) for pair in zip(consumed, inserted, strict=True)]
    peak = max((one.peak for one in ours if one.peak is not None), default=None)
    first, middle = _first_contacts()
    return Result(
        ROW,
        f"{WEBHOOKS} webhooks a round from {CUSTOMERS} customers by lot into an empty database; the rate between a "
        f"fifth and four fifths of them, where {middle:.1%} are first contacts (of all {first:.1%}). In envelopes of "
        f"{sum(WEBHOOKS / one.envelopes for one in ours) / rounds:.0f}, as 64 publishers at once make them. The floor "
        "is the slower of: aio-pika consume and ack, one message a webhook; INSERT of 200 rows, two at once.",
        [Measure(ROW, "webhooks", "/s", Goal("at least", 0.6), slower, [one.rate for one in ours])],
        [Peak(ROW, "persist", peak)],
        {
            "consume_and_ack": consumed,
            "insert": inserted,
            "webhooks_an_envelope": [WEBHOOKS / o.envelopes for o in ours],
        },
    )


def _first_contacts() -> tuple[float, float]:
    """Share of webhooks whose customer had not written before: of all, and of the part that is measured."""
    known: set[int] = set()
    first = []
    for customer in senders(WEBHOOKS):
        first.append(customer not in known)
        known.add(customer)
    middle = first[WEBHOOKS // 5 : WEBHOOKS * 4 // 5]
    return sum(first) / len(first), sum(middle) / len(middle)


async def _consumed(arena: Arena, broker: str, count: int) -> float:
    await queues.fill_singly(broker, FLOOR_QUEUE, list(bodies(count)))
    progress = await arena.result(
        "floor-consume", "floor_consume", [FLOOR_QUEUE, str(count), "FILE"], {"AMQP_URL": broker}
    )
    if left := await queues.settled(broker, FLOOR_QUEUE, 0):
        raise Problem(f"The floor left {left} messages in its queue.", "Run it again.")
    return middle_rate(progress)


async def _inserted(arena: Arena, database: str, count: int) -> float:
    progress = await arena.result("floor-insert", "floor_insert", [str(count), "FILE"], {"DATABASE_URL": database})
    return middle_rate(progress)


async def committed(arena: Arena, broker: str, database: str, count: int) -> Committed:
    """Have one process of persist's empty its queue, into which `count` webhooks are put before, into this database.

    Raises Problem where one is not kept.
    """
    variables = {"AMQP_URL": broker, "DATABASE_URL": database}
    envelopes = await queues.fill_as_ingress(arena.settings(amqp_url=broker), list(bodies(count)))
    connection = await asyncpg.connect(database, server_settings={"role": "palomar_worker"})
    try:
        before = await connection.fetchval("SELECT count(*) FROM inbound_keys")
        started = await connection.fetchval("SELECT clock_timestamp()")
        worker = arena.spawn("persist", ["-m", "workers", "persist"], variables, serves=True)
        await _until(arena, worker, connection, before + count)
        # By the beginning of each transaction, which nothing had to ask for while the clock ran.
        batches = await connection.fetch(
            "SELECT created_at, count(*) FROM inbound_log WHERE created_at > $1 GROUP BY 1 ORDER BY 1", started
        )
        peak = worker.peak()
        arena.end(worker)
    finally:
        await connection.close()
    for name in (topology.PERSIST.name, topology.PERSIST.dead_letters):
        if left := await queues.settled(broker, name, 0):
            raise Problem(f"persist left {left} envelopes in {name}.", f"Its log is {worker.log}.")
    await queues.purge_work(broker)
    so_far = accumulate(row["count"] for row in batches)
    progress = [(total, row["created_at"].timestamp()) for total, row in zip(so_far, batches, strict=True)]
    return Committed(middle_rate(progress), envelopes, peak)


async def _until(arena: Arena, worker: Process, connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> None:
    """Wait until so many webhooks are kept, and nothing of the worker's is still under way."""
    deadline = time.monotonic() + WITHIN
    while await connection.fetchval("SELECT count(*) FROM inbound_keys") < count:
        arena.check(worker)
        if time.monotonic() > deadline:
            raise Problem(f"persist did not finish within {WITHIN:g} s.", f"Its log is {worker.log}.")
        await asyncio.sleep(0.5)
    await asyncio.sleep(0.3)


async def _committed(arena: Arena, broker: str, count: int) -> Committed:
    """The same into an empty database. Raises Problem where something is not there once afterwards."""
    database = arena.database("persist")
    one = await committed(arena, broker, database, count)
    connection = await asyncpg.connect(database, server_settings={"role": "palomar_worker"})
    try:
        await _check(connection, count)
    finally:
        await connection.close()
    return one


async def _check(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> None:
    wanted = {
        "inbound_log": count,
        "messages": count,
        "conversations": len(set(senders(count))),
        "contacts": len(set(senders(count))),
    }
    for table, expected in wanted.items():
        kept = await connection.fetchval(f"SELECT count(*) FROM {table}")
        if kept != expected:
            raise Problem(f"{table} holds {kept} rows, not {expected}.", "This must never happen; report it.")
