"""Row "growth": what the hot path costs where ten million messages are stored, against an empty database.

The messages come in by COPY, with every index in place, into a hundred thousand conversations. Both databases then
have the same done to them: `python -m workers persist` keeps webhooks of 2,000 of the customers, drawn by lot, and the
latest 50 messages of a conversation are read. PALOMAR_BENCH_STORED says how many are stored.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final
from uuid import UUID

import asyncpg
import psycopg
from uuid_utils.compat import uuid7

from ops.errors import Problem
from shared import database
from shared.store.messages import inbound
from tests.bench import row_persist
from tests.bench.arena import Arena
from tests.bench.figures import Advance, Goal, Measure, Result

ROW: Final = "growth"
STORED: Final = int(os.environ.get("PALOMAR_BENCH_STORED", "10000000"))
CONVERSATIONS: Final = 100_000
ACTIVE: Final = 2_000  # of them, who write while it is measured, as in the row `persist`
WEBHOOKS: Final = 20_000  # a round
READS: Final = 2_000  # a round
LATEST: Final = 50
CHUNK: Final = 50_000  # rows a COPY: its own transaction
SPAN: Final = timedelta(days=365)  # over which what is stored came in
WORDS: Final = "hola quería preguntar por el pedido de la semana pasada, todavía no me ha llegado nada " * 2

# Those who write while it is measured (webhooks.phone) lie among all the others, in the table and in its indexes.
_CONVERSATIONS = """
INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, phone, created_at)
SELECT gen_random_uuid(), c.tenant_id, c.id, 'twilio', made.address, made.address, made.address,
    now() - interval '400 days'
FROM channels c, generate_series(0, $1::int - 1) AS n, LATERAL (SELECT
    '+346' || lpad((n % $2::int)::text, 8, '0') || CASE WHEN n < $2::int THEN '' ELSE (n / $2::int)::text END AS address
) AS made
WHERE c.provider = 'twilio' AND c.kind = 'whatsapp'
ORDER BY random() RETURNING id
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
    broker = arena.vhost("growth")
    kept: dict[str, list[float]] = {empty: [], full: []}
    read: dict[str, list[float]] = {empty: [], full: []}
    for number in range(rounds + 1):
        for url in (empty, full) if number % 2 else (full, empty):
            one = await row_persist.committed(arena, broker, url, WEBHOOKS)
            async with database.make_pool(arena.settings(database_url=url), process="bench", size=2) as pool:
                milliseconds = await _read(pool, stored_in[url], dice)
            if number:  # the first was to warm up
                kept[url].append(one.rate)
                read[url].append(milliseconds)
        advance()
    return Result(
        ROW,
        f"{STORED:,} messages of {CONVERSATIONS:,} conversations loaded by COPY in {loading:.0f} s, against a database "
        f"of {ACTIVE * LATEST:,} in {ACTIVE:,}. {WEBHOOKS:,} webhooks a round from {ACTIVE:,} customers by lot, the "
        f"rate between a fifth and four fifths of them; {READS:,} reads of the latest {LATEST}, one at a time.",
        [
            Measure(ROW, "persist", "/s", Goal("at least", 0.85), kept[empty], kept[full]),
            Measure(ROW, f"latest {LATEST}, p50", "ms", Goal("at most", 1.18), read[empty], read[full]),
        ],
    )


async def _load(arena: Arena, url: str, count: int) -> list[tuple[UUID, UUID, UUID]]:
    """Store so many messages; returns (tenant, channel, conversation) of some, to be read."""
    talks = ACTIVE if count == ACTIVE * LATEST else CONVERSATIONS
    connection = await asyncpg.connect(url, server_settings={"role": "palomar_worker"})
    try:
        ids = [row["id"] for row in await connection.fetch(_CONVERSATIONS, talks, ACTIVE, timeout=600)]
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


async def _read(pool: database.Pool, chosen: list[tuple[UUID, UUID, UUID]], dice: random.Random) -> float:
    """Milliseconds of the median read."""
    taken = []
    async with pool.acquire() as connection:
        for _ in range(READS):
            tenant, _, conversation = dice.choice(chosen)
            started = time.perf_counter()
            said = await inbound.history(connection, tenant, conversation, LATEST)
            taken.append((time.perf_counter() - started) * 1000)
            if len(said) < min(LATEST, STORED // CONVERSATIONS // 2):
                raise Problem(f"A conversation has {len(said)} messages.", "This must never happen; report it.")
    return median(taken)
