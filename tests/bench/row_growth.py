"""Row "growth": what the hot path costs where ten million messages are stored, against an empty database.

The messages come in by COPY, with every index in place, into a hundred thousand conversations. Both databases then do
the same with the functions that persist calls: insert customers' messages by 200 a transaction into conversations drawn
by lot, which are locked and changed as by persist, and read the latest 50 of a conversation. PALOMAR_BENCH_STORED says
how many are stored.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final
from uuid import UUID

import asyncpg
import orjson
import psycopg
from uuid_utils.compat import uuid7

from ops.errors import Problem
from shared import db
from shared.store import conversations, talk
from tests.bench.arena import Arena
from tests.bench.figures import Advance, Goal, Measure, Result

ROW: Final = "growth"
STORED: Final = int(os.environ.get("PALOMAR_BENCH_STORED", "10000000"))
CONVERSATIONS: Final = 100_000
ACTIVE: Final = 2_000  # of them, who write while it is measured, as in the row `persist`
BATCH: Final = 200  # messages a transaction
INSERTS: Final = 100  # transactions a round
READS: Final = 2_000  # a round
LATEST: Final = 50
CHUNK: Final = 50_000  # rows a COPY: its own transaction
HANDOFF: Final = timedelta(seconds=20)
SPAN: Final = timedelta(days=365)  # over which what is stored came in
WORDS: Final = "hola quería preguntar por el pedido de la semana pasada, todavía no me ha llegado nada " * 2

_CONVERSATIONS = """
INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, phone, created_at)
SELECT gen_random_uuid(), c.tenant_id, c.id, 'twilio', '+346' || lpad(n::text, 8, '0'), '+346' || lpad(n::text, 8, '0'),
    '+346' || lpad(n::text, 8, '0'), now() - interval '400 days'
FROM channels c, generate_series(1, $1::int) AS n WHERE c.provider = 'twilio' AND c.kind = 'whatsapp'
RETURNING id
"""
_COPY = """
COPY messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content, external_id,
    dedupe_key, out_seq, received_at, created_at) FROM STDIN
"""


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where the database does not hold afterwards what was stored."""
    empty, full = arena.database("growth_empty"), arena.database("growth_full")
    dice = random.Random(20260501)
    started = time.monotonic()
    stored_in = {empty: await _load(arena, empty, ACTIVE * LATEST), full: await _load(arena, full, STORED)}
    loading = time.monotonic() - started
    inserted: dict[str, list[float]] = {empty: [], full: []}
    read: dict[str, list[float]] = {empty: [], full: []}
    for number in range(rounds + 1):
        for url in (empty, full) if number % 2 else (full, empty):
            settings = arena.settings(database_url=url, amqp_url="amqp://nobody")
            async with db.make_pool(settings, process="bench", size=2) as pool:
                active = stored_in[url]
                rate = await _insert(pool, active, dice)
                milliseconds = await _read(pool, active, dice)
            if number:  # the first was to warm up
                inserted[url].append(rate)
                read[url].append(milliseconds)
        advance()
    return Result(
        ROW,
        f"{STORED:,} messages of {CONVERSATIONS:,} conversations loaded by COPY in {loading:.0f} s, against a database "
        f"of {ACTIVE * LATEST:,} in {ACTIVE:,}. {INSERTS} transactions of {BATCH} messages from {ACTIVE:,} customers "
        f"by lot, two at once; {READS:,} reads of the latest {LATEST}, one at a time.",
        [
            Measure(ROW, "insert", "/s", Goal("at least", 0.85), inserted[empty], inserted[full]),
            Measure(ROW, f"latest {LATEST}, p50", "ms", Goal("at most", 1.18), read[empty], read[full]),
        ],
    )


async def _load(arena: Arena, url: str, count: int) -> list[tuple[UUID, UUID, UUID]]:
    """Store so many messages; returns (tenant, channel, conversation) of the customers who go on writing."""
    talks = ACTIVE if count == ACTIVE * LATEST else CONVERSATIONS
    connection = await asyncpg.connect(url, server_settings={"role": "palomar_worker"})
    try:
        ids = [row["id"] for row in await connection.fetch(_CONVERSATIONS, talks, timeout=600)]
        only = await connection.fetchrow(
            "SELECT tenant_id, id FROM channels WHERE provider = 'twilio' AND kind = 'whatsapp'"
        )
    finally:
        await connection.close()
    assert only is not None, "the template has the demo's WhatsApp channel at Twilio"
    tenant, channel = only
    name = url.rpartition("/")[2].partition("?")[0]
    await asyncio.to_thread(_copy, arena.stack.postgres.url("postgres", name), tenant, channel, ids, count)
    return [(tenant, channel, i) for i in random.Random(1).sample(ids, ACTIVE)]


def _copy(url: str, tenant: UUID, channel: UUID, talks: list[UUID], count: int) -> None:
    """As a superuser and a replica, so that neither triggers nor foreign keys are looked at: it is history."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for first in range(0, count, CHUNK):
            with connection.cursor().copy(_COPY) as copy:
                for line in _lines(tenant, channel, talks, range(first, min(first + CHUNK, count)), count):
                    copy.write(line)
        connection.execute("VACUUM (ANALYZE) messages")
        connection.execute("VACUUM (ANALYZE) conversations")
        (kept,) = connection.execute("SELECT count(*) FROM messages").fetchone() or (0,)
    if kept != count:
        raise Problem(f"{kept} messages are stored, not {count}.", "This must never happen; report it.")


def _lines(tenant: UUID, channel: UUID, talks: list[UUID], numbers: range, count: int) -> Iterator[bytes]:
    """Rows of COPY's text format: a customer's message, our answer, and so on, a year long up to now."""
    began = datetime.now(UTC) - SPAN
    for number in numbers:
        conversation = talks[(number * 7919 // 2) % len(talks)]
        at = (began + SPAN * (number / count)).isoformat()
        ours = number % 2
        facts = (
            ("outbound", "assistant", "delivered") if ours else ("inbound", "user", "received")
        )  # fmt: skip
        keys = (f"reply:{uuid7()}", str(number)) if ours else ("\\N", "\\N")
        columns = (
            *(str(uuid7()), str(tenant), str(conversation), str(channel), "twilio", *facts),
            *(WORDS[: 20 + number % 140], f"SM{number:032x}", *keys, at, at),
        )
        yield ("\t".join(columns) + "\n").encode()


async def _insert(pool: db.Pool, active: list[tuple[UUID, UUID, UUID]], dice: random.Random) -> float:
    """Messages a second that two connections commit, 200 a transaction."""
    batches = [[dice.choice(active) for _ in range(BATCH)] for _ in range(INSERTS)]

    async def work() -> None:
        while batches:
            batch = batches.pop()
            rows = talk.inbound_rows([_inbound(*where) for where in sorted(batch)])
            heard = [_heard(*where, count) for where, count in Counter(batch).items()]
            async with pool.acquire() as connection, connection.transaction():
                await conversations.lock(connection, {(one.tenant_id, one.id) for one in heard})
                done = await talk.insert_inbound(connection, rows)
                await conversations.heard(connection, heard, HANDOFF)
                if len(done) != BATCH:
                    raise Problem(f"{len(done)} of {BATCH} were inserted.", "This must never happen; report it.")

    started = time.monotonic()
    await asyncio.gather(work(), work())
    return INSERTS * BATCH / (time.monotonic() - started)


def _inbound(tenant: UUID, channel: UUID, conversation: UUID) -> talk.Inbound:
    return talk.Inbound(
        tenant_id=tenant,
        conversation_id=conversation,
        channel_id=channel,
        provider="twilio",
        external_id=f"SM{uuid7().hex}",
        message_type="text",
        content=WORDS[:90],
        received_at=datetime.now(UTC),
        metadata=orjson.loads(b'{"ProfileName": "Ana"}'),
    )


def _heard(tenant: UUID, _: UUID, conversation: UUID, count: int) -> conversations.Heard:
    now = datetime.now(UTC)
    return conversations.Heard(
        tenant,
        conversation,
        recipient="+34600000000",
        contact_name="Ana",
        debounce=timedelta(0),
        longest_wait=timedelta(seconds=30),
        at=now,
        messages=count,
        spoke_at=now,
    )


async def _read(pool: db.Pool, active: list[tuple[UUID, UUID, UUID]], dice: random.Random) -> float:
    """Milliseconds of the median read."""
    taken = []
    async with pool.acquire() as connection:
        for _ in range(READS):
            tenant, _, conversation = dice.choice(active)
            started = time.perf_counter()
            said = await talk.history(connection, tenant, conversation, LATEST)
            taken.append((time.perf_counter() - started) * 1000)
            if len(said) < min(LATEST, STORED // CONVERSATIONS // 2):
                raise Problem(f"A conversation has {len(said)} messages.", "This must never happen; report it.")
    return median(taken)
