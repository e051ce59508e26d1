"""Row "campaign-freeze": what it costs to freeze a campaign's recipients, and how long a writer waits for it.

The floor is one bare INSERT … SELECT of the same contacts, with the same indexes, foreign keys and counters. Ours also
finds each contact's address, the values of two placeholders, and whether it is skipped: opted out, without a number, or
in the United States. Beside it two sessions take the locks that persist takes, on contacts of the very page that is
being frozen: one as it notes a message, the other as it joins two contacts. What they wait for these locks is seen in
pg_locks, so that a busy machine does not count. PALOMAR_BENCH_CONTACTS says how many recipients a campaign has.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import psycopg

from ops.demo.twilio import DEMO
from ops.errors import Problem
from shared.store.campaigns.audience import LIMIT
from tests.bench.arena import Arena
from tests.bench.figures import Advance, Goal, Measure, Peak, Result

ROW: Final = "campaign-freeze"
CONTACTS: Final = int(os.environ.get("PALOMAR_BENCH_CONTACTS", "100000"))
LONGEST_WAIT: Final = 250.0  # milliseconds
_ALL: Final = uuid4()  # a group of all contacts,
_SOME: Final = uuid4()  # and of a tenth of them
_TEMPLATE: Final = uuid4()
_REACH: Final = LIMIT  # contacts behind those that are frozen, of which the writers choose

_CONTACTS: Final = (
    """INSERT INTO contacts (id, tenant_id, name, metadata)
    SELECT gen_random_uuid(), $1, 'Ana ' || n, '{"city": "Jerez", "tags": ["customer"]}'
    FROM generate_series(1, $2::int) AS n""",
    """INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
    SELECT tenant_id, 'phone', number, number, id FROM (
        SELECT tenant_id, id, CASE WHEN n % 20 = 0 THEN '+1202' || 2000000 + n ELSE '+34' || 600000000 + n END AS number
        FROM (SELECT tenant_id, id, row_number() OVER () AS n FROM contacts WHERE tenant_id = $1) AS c
        WHERE n % 50 > 0 AND $2::int > 0
    ) AS numbered""",
    """INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source)
    SELECT tenant_id, id, 'whatsapp', 'opted_out', 'api' FROM contacts
    WHERE tenant_id = $1 AND $2::int > 0 AND left(id::text, 1) = 'a'""",
)
_MEMBERS: Final = """
INSERT INTO group_contacts (tenant_id, group_id, contact_id)
SELECT $1, $2, id FROM contacts WHERE tenant_id = $1 ORDER BY id LIMIT $3
"""
_CAMPAIGN: Final = """
INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, name, message, message_template_id, settings,
    recipient_type, recipient_ids)
VALUES ($1, $2, $3, 'bench', 'Hello {{contact.name}} in {{contact.metadata.city|town}}', $4, '{"free_form": true}',
    'groups', ARRAY[$5::uuid])
"""
_BARE: Final = """
INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id)
SELECT tenant_id, $1, contact_id FROM group_contacts WHERE tenant_id = $2 AND group_id = $3
"""
_NEXT: Final = """
SELECT contact_id FROM group_contacts
WHERE tenant_id = $1 AND group_id = $2 AND contact_id > coalesce(
    (SELECT frozen_to FROM campaigns WHERE tenant_id = $1 AND id = $3), '00000000-0000-0000-0000-000000000000')
ORDER BY contact_id LIMIT $4
"""
_NOTED: Final = "UPDATE contacts SET deleted_at = NULL WHERE tenant_id = $1 AND id = ANY($2::uuid[])"
_JOINED: Final = "SELECT FROM contacts WHERE tenant_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR UPDATE"

_WAITING: Final = """
SELECT pid, max(extract(epoch FROM clock_timestamp() - waitstart)::float8) * 1000 AS milliseconds FROM pg_locks
WHERE NOT granted AND waitstart IS NOT NULL AND pid = ANY($1::int[]) GROUP BY pid
"""


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a contact has no recipient afterwards, or more than one."""
    url = arena.database("campaign_freeze")
    bare, ours, pages = list[float](), list[float](), []
    noted, joined = list[float](), list[float]()
    async with AsyncExitStack() as stack:
        session, noting, joining, looking = [await _session(stack, url) for _ in range(4)]
        channel_id = await _stored(session)
        await asyncio.to_thread(_analyze, arena.stack.postgres.url("postgres", "bench_campaign_freeze"))
        for number in range(rounds + 1):
            group, contacts = (_ALL, CONTACTS) if number else (_SOME, CONTACTS // 10)  # the first is to warm up
            bare_ms = await _bare(session, await _campaign(session, channel_id, group), group)
            frozen = await _campaign(session, channel_id, group)
            found = await _frozen(arena, url, frozen)
            await _check(session, frozen, contacts)
            frozen = await _campaign(session, channel_id, _SOME)
            freezing = asyncio.create_task(_frozen(arena, url, frozen))
            longest, *_ = await asyncio.gather(
                _longest_waits(looking, [noting.get_server_pid(), joining.get_server_pid()], freezing.done),
                _write(noting, _NOTED, frozen, freezing.done),
                _write(joining, _JOINED, frozen, freezing.done),
                freezing,
            )
            await _check(session, frozen, CONTACTS // 10)
            if number:
                bare.append(bare_ms)
                ours.append(found["seconds"] * 1000)
                pages.append(found)
                noted.append(longest[0])
                joined.append(longest[1])
            advance()
    bound = [LONGEST_WAIT] * rounds
    return Result(
        ROW,
        f"{CONTACTS:,} contacts of a group a round; the floor is one INSERT … SELECT of the same. The longest wait is "
        f"of a writer beside it, on contacts of the very page that is frozen, against {LONGEST_WAIT:.0f} ms.",
        [
            Measure(ROW, "freezing", "ms", Goal("at most", 3.0), bare, ours),
            Measure(ROW, "a message waits", "ms", Goal("at most", 1.0), bound, noted),
            Measure(ROW, "a join waits", "ms", Goal("at most", 1.0), bound, joined),
        ],
        [Peak(ROW, "freezing", int(max(one["peak"] for one in pages)))],
        {"pages": pages},
    )


async def _bare(session: "asyncpg.Connection[asyncpg.Record]", campaign_id: UUID, group: UUID) -> float:
    """Milliseconds."""
    began = time.monotonic()
    await session.execute(_BARE, campaign_id, DEMO.tenant_id, group)
    return (time.monotonic() - began) * 1000


async def _frozen(arena: Arena, url: str, campaign_id: UUID) -> dict[str, float]:
    arguments = [str(DEMO.tenant_id), str(campaign_id), "FILE"]
    found: dict[str, float] = await arena.result("freeze", "load_freeze", arguments, {"DATABASE_URL": url})
    return found


async def _session(stack: AsyncExitStack, url: str) -> "asyncpg.Connection[asyncpg.Record]":
    session = await asyncpg.connect(url, server_settings={"role": "palomar_worker"})
    stack.push_async_callback(session.close)
    return session


async def _stored(session: "asyncpg.Connection[asyncpg.Record]") -> UUID:
    """Store the contacts, their group and a template; returns the channel that sends."""
    for statement in _CONTACTS:
        await session.execute(statement, DEMO.tenant_id, CONTACTS, timeout=600)
    for group, contacts in ((_ALL, CONTACTS), (_SOME, CONTACTS // 10)):
        await session.execute("INSERT INTO groups (tenant_id, id, name) VALUES ($1, $2, 'g')", DEMO.tenant_id, group)
        await session.execute(_MEMBERS, DEMO.tenant_id, group, contacts, timeout=600)
    channel_id: UUID = await session.fetchval(
        "SELECT id FROM channels WHERE tenant_id = $1 AND provider = 'twilio' AND kind = 'whatsapp'", DEMO.tenant_id
    )
    await session.execute(
        "INSERT INTO message_templates (tenant_id, id, channel_id, name, category) "
        "VALUES ($1, $2, $3, 'offer', 'MARKETING')",
        DEMO.tenant_id,
        _TEMPLATE,
        channel_id,
    )
    return channel_id


def _analyze(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


async def _campaign(session: "asyncpg.Connection[asyncpg.Record]", channel_id: UUID, group: UUID) -> UUID:
    campaign_id = uuid4()
    await session.execute(_CAMPAIGN, campaign_id, DEMO.tenant_id, channel_id, _TEMPLATE, group)
    return campaign_id


async def _write(
    session: "asyncpg.Connection[asyncpg.Record]", statement: str, campaign_id: UUID, is_over: Callable[[], bool]
) -> None:
    """Carry the statement out again and again, on two contacts at a time that are about to be frozen."""
    dice = random.Random(20261128)
    while not is_over():
        rows = await session.fetch(_NEXT, DEMO.tenant_id, _SOME, campaign_id, _REACH)
        if len(rows) >= 2:
            await session.execute(statement, DEMO.tenant_id, sorted(row["contact_id"] for row in dice.sample(rows, 2)))
        await asyncio.sleep(0.005)


async def _longest_waits(
    session: "asyncpg.Connection[asyncpg.Record]", pids: list[int], is_over: Callable[[], bool]
) -> list[float]:
    """The longest that each of these sessions was seen to wait for a lock, in milliseconds."""
    longest = dict.fromkeys(pids, 0.0)
    while not is_over():
        for row in await session.fetch(_WAITING, pids):
            longest[row["pid"]] = max(longest[row["pid"]], row["milliseconds"])
        await asyncio.sleep(0.002)
    return list(longest.values())


async def _check(session: "asyncpg.Connection[asyncpg.Record]", campaign_id: UUID, contacts: int) -> None:
    kept = await session.fetchval("SELECT count(*) FROM campaign_recipients WHERE campaign_id = $1", campaign_id)
    counted = await session.fetchval(
        "SELECT sum(recipients)::bigint FROM campaign_counts WHERE campaign_id = $1", campaign_id
    )
    if not kept == counted == contacts:
        raise Problem(f"{kept} recipients are frozen and {counted} counted, of {contacts}.", "This must never happen.")
