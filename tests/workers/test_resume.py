"""A stopped channel goes on, and what waits in a million rows costs neither that nor the clock a long statement."""

import time
from datetime import timedelta
from typing import Final

import asyncpg
import pytest

from shared.settings import Settings
from shared.store import channels
from tests.support.stage import Stage, staged
from workers.clock import tasks

PUT_OFF: Final = "UPDATE messages SET status = 'ready', due_at = now() + interval '1 hour', not_before = due_at"
DUE: Final = "messages WHERE due_at <= now() AND not_before IS NULL"


async def waiting(stage: Stage, conversations: int) -> None:
    """So many conversations of a stopped channel, with two messages to send in each."""
    for number in range(conversations):
        conversation = await stage.converse(customer=f"+34600{number:06}")
        for text in ("1", "2"):
            await stage.requested(conversation, text)
    await stage.pool.execute(PUT_OFF)
    await stage.pool.execute("UPDATE channels SET status = 'stopped'")


async def test_some_conversations_at_a_time_are_due_when_a_channel_is_resumed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CONVERSATIONS_AT_ONCE", 7)
    async with staged(settings) as stage:
        other = await stage.add_channel()
        await waiting(stage, 30)
        await stage.requested(await stage.converse(ours=other), "another channel's", ours=other)
        await stage.pool.execute(PUT_OFF)
        assert await channels.resume(stage.pool, stage.ours.tenant_id, stage.ours.id)
        assert await stage.count(DUE) == 30, "the first of each lane"
        assert await stage.count(f"{DUE} AND content <> '1'") == 0
        at_once = await stage.value(
            f"SELECT max(rows) FROM (SELECT count(*) AS rows FROM {DUE} GROUP BY xmin::text) AS transactions"
        )
        assert at_once <= 7
        assert not await channels.resume(stage.pool, stage.ours.tenant_id, stage.ours.id), "it was not stopped"


async def test_a_tick_looks_at_a_part_of_what_is_held_and_the_next_ones_at_the_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "HELD_AT_ONCE", 4)
    async with staged(settings) as stage:
        held = [await stage.requested(await stage.converse(customer=f"+34600{n:06}"), str(n)) for n in range(10)]
        await stage.pool.execute("UPDATE messages SET status = 'held', due_at = now() + interval '1 hour'")
        await stage.pool.execute("UPDATE conversations SET last_user_message_at = now() - interval '2 days'")
        await stage.pool.execute(
            "UPDATE conversations SET last_user_message_at = now() WHERE id = $1",
            max(one.conversation_id for one in held),
        )
        look = tasks.HeldAndOpen()

        async def tick() -> int:
            async with stage.context.transaction() as tx:
                return len(await look(tx, stage.context))

        assert [await tick() for _ in range(3)] == [0, 0, 1]
        assert await stage.count("messages WHERE status = 'queued'") == 1
        await stage.pool.execute("UPDATE conversations SET last_user_message_at = now()")
        assert [await tick() for _ in range(3)] == [4, 4, 1]


# -- a million --------------------------------------------------------------------------------------------------------

TALKS: Final = 250_000
EACH: Final = 4  # ready messages in each, and as many that are held
LONGEST_LOOK: Final = (
    0.020  # seconds of a tick, of one kind of work that publishes nothing; a batch's writes come on top
)
LONGEST_STATEMENT: Final = 1.0  # seconds, a thirtieth of what it may take
FILL: Final = (
    """INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, last_user_message_at)
    SELECT md5('talk' || n)::uuid, $1, $2, 'twilio', '+34' || 600000000 + n, '', now() - interval '2 days'
    FROM generate_series(1, $3::int) n""",
    """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, dedupe_key,
        out_seq, due_at)
    SELECT gen_random_uuid(), $1, md5('talk' || n)::uuid, $2, 'twilio', 'outbound', 'assistant', status,
        status || n || '.' || m, 2 * m + place, now() + CASE status WHEN 'held' THEN interval '3 days' ELSE $5 END
    FROM generate_series(1, $3::int) n, generate_series(1, $4::int) m,
        unnest(ARRAY['ready', 'held']) WITH ORDINALITY AS of (status, place)""",
)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("due_in", [timedelta(minutes=-5), timedelta(minutes=30)], ids=["due", "put off"])
async def test_a_million_ready_and_a_million_held_messages_cost_a_look_no_more_than_20_ms(
    settings: Settings, due_in: timedelta
) -> None:
    async with staged(settings) as stage:
        ours = (stage.ours.tenant_id, stage.ours.id)
        for statement, more in zip(FILL, ((TALKS,), (TALKS, EACH, due_in)), strict=True):
            await stage.pool.execute(statement, *ours, *more, timeout=1800)
        await stage.pool.execute("UPDATE channels SET status = 'stopped'")
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        await owner.execute("ANALYZE")
        await owner.close()
        looks: dict[str, float] = {}
        for name, task in tasks.TASKS.items():
            for _ in range(3):  # the first brings what it reads into memory
                async with stage.context.transaction() as tx:
                    started = time.monotonic()
                    if not await task(tx, stage.context):
                        looks[name] = time.monotonic() - started
        print({name: f"{1000 * took:.1f} ms" for name, took in looks.items()})

        took: list[float] = []
        async with stage.pool.acquire() as connection:
            with connection.query_logger(lambda query: took.append(query.elapsed)):
                assert await channels.resume(connection, *ours)
        print(f"resumed in {sum(took):.1f} s, {len(took)} statements, the longest {1000 * max(took):.0f} ms")
        assert await stage.count("messages WHERE status = 'ready' AND due_at <= now()") >= TALKS
        assert {name: seconds for name, seconds in looks.items() if seconds > LONGEST_LOOK} == {}
        assert max(took) < LONGEST_STATEMENT
