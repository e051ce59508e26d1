"""The clock publishes what is due, once however many clocks run, and keeps the partitions."""

import asyncio
from datetime import UTC, datetime, timedelta

import aio_pika
import asyncpg
import orjson
import pytest

from shared.queue import topology
from shared.queue.jobs import ReplyWanted
from shared.settings import Settings
from shared.store import partitions, webhook_log
from tests.support.stage import Stage, staged
from workers.clock import log_retention, worker

TODAY = datetime.now(UTC).date()


async def many_due(stage: Stage, count: int) -> None:
    for n in range(count):
        await stage.requested(await stage.converse(customer=f"+34600{n:06}"), str(n))
    await stage.pool.execute("UPDATE messages SET due_at = now() - interval '1 second'")


async def items(stage: Stage, queue: str) -> int:
    """Items that stand in a queue, whatever envelopes they came in; they are taken out."""
    connection = await aio_pika.connect(stage.settings.amqp_url.get_secret_value())
    count = 0
    async with connection, connection.channel() as channel:
        opened = await channel.get_queue(queue, ensure=False)
        while (message := await opened.get(no_ack=True, fail=False)) is not None:
            count += len(orjson.loads(message.body)["items"])
    return count


async def test_several_clocks_hand_each_overdue_row_on_once(settings: Settings) -> None:
    async with staged(settings, handoff_lease=30.0, clock_batch=10) as stage:
        await many_due(stage, 60)
        async with stage.working("clock"), stage.working("clock"), stage.working("clock"):
            await stage.until(stage.count, "messages WHERE due_at > now()", equals=60)
            await asyncio.sleep(0.5)
        assert await items(stage, topology.WINDOW.name) == 60


async def test_what_no_worker_takes_up_is_published_again_a_lease_later(settings: Settings) -> None:
    async with staged(settings, handoff_lease=0.5) as stage:
        await many_due(stage, 3)
        async with stage.working("clock"):
            await asyncio.sleep(1.8)
        assert 6 <= await items(stage, topology.WINDOW.name) <= 12


async def test_several_clocks_together_make_a_lost_lease_unknown_once(settings: Settings) -> None:
    async with staged(settings, unknown_check_after=60.0) as stage:
        await many_due(stage, 20)
        await stage.pool.execute("UPDATE messages SET status = 'sending', claim_id = id")
        async with stage.working("clock"), stage.working("clock"):
            await stage.until(stage.statuses, equals=["unknown"] * 20)
        assert await stage.count("events WHERE name = 'message.unknown'") == 20


async def test_the_lane_behind_a_lost_lease_goes_on_at_once(settings: Settings) -> None:
    async with staged(settings, unknown_check_after=60.0, handoff_lease=60.0) as stage:
        conversation = await stage.converse()
        first, second = await stage.requested(conversation, "1"), await stage.requested(conversation, "2")
        await stage.pool.execute("UPDATE messages SET status = 'ready'")
        await stage.pool.execute(
            "UPDATE messages SET status = 'sending', claim_id = id, due_at = now() WHERE id = $1", first.message_id
        )
        async with stage.working("clock", "send"):
            await stage.until(stage.status, second.message_id, equals="sent")


async def test_a_debounced_reply_is_asked_for_when_its_time_comes(settings: Settings) -> None:
    async with staged(settings, handoff_lease=60.0) as stage:
        await stage.converse()
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now() + interval '0.5 seconds'")
        async with stage.working("clock"):
            await asyncio.sleep(0.3)
            assert await stage.depth(topology.REPLY.name) == 0
            await stage.until(stage.depth, topology.REPLY.name, equals=1)
            await asyncio.sleep(0.3)
        assert await items(stage, topology.REPLY.name) == 1


async def test_one_kind_of_work_that_fails_does_not_keep_the_others_from_their_turn(settings: Settings) -> None:
    async with staged(settings) as stage:
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        await owner.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON messages FOR EACH ROW WHEN (NEW.status = 'expired')
            EXECUTE FUNCTION refuse()"""
        )
        await owner.close()
        await many_due(stage, 1)
        await stage.pool.execute("UPDATE messages SET status = 'held'")
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now(), last_user_message_at = NULL")
        await stage.pool.execute("INSERT INTO inbound_keys VALUES ('\\x01', now() - interval '90 days')")
        async with stage.working("clock"):
            await stage.until(stage.depth, topology.REPLY.name, equals=1)
            await stage.until(stage.count, "inbound_keys", equals=0)


# -- partitions --------------------------------------------------------------------------------------------------------


async def days(stage: Stage, parent: str) -> list[str]:
    rows = await stage.rows(
        "SELECT right(inhrelid::regclass::text, 8) AS day FROM pg_inherits WHERE inhparent = $1::regclass ORDER BY 1",
        parent,
    )
    return [row["day"] for row in rows if row["day"].isdigit()]


async def old_day(owner: "asyncpg.Connection[asyncpg.Record]", parent: str, age: int) -> str:
    """A partition of a day so long ago, as the clock of that day made it."""
    day = TODAY - timedelta(days=age)
    name = f"{parent}_{day:%Y%m%d}"
    await owner.execute(
        f"CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ('{day}Z') TO ('{day + timedelta(days=1)}Z')"
    )
    return f"{day:%Y%m%d}"


@pytest.mark.parametrize("parent", ["events", "inbound_log"])
async def test_old_days_are_dropped_and_coming_ones_made(settings: Settings, parent: str) -> None:
    async with staged(settings, events_days=10, inbound_log_days=10) as stage:
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            kept, dropped = await old_day(owner, parent, 10), await old_day(owner, parent, 11)
            tomorrow = f"{TODAY + timedelta(days=1):%Y%m%d}"
            await owner.execute(f"DROP TABLE {parent}_{tomorrow}")
        finally:
            await owner.close()
        await log_retention.retain(stage.context)
        there = await days(stage, parent)
        assert kept in there
        assert dropped not in there
        assert {f"{TODAY + timedelta(days=ahead):%Y%m%d}" for ahead in range(-1, 8)} <= set(there)


async def test_the_key_of_a_webhook_outlives_its_day_and_ends_with_the_log(settings: Settings) -> None:
    async with staged(settings, inbound_log_days=10) as stage:
        await stage.pool.execute(
            "INSERT INTO inbound_keys "
            "VALUES ('\\x01', now() - interval '9 days'), ('\\x02', now() - interval '12 days')"
        )
        await log_retention.retain(stage.context)
        assert [row["id"] for row in await stage.rows("SELECT id FROM inbound_keys")] == [b"\x01"]


async def test_what_is_known_of_an_old_import_goes_with_its_defects(settings: Settings) -> None:
    async with staged(settings, import_days=10) as stage:
        await stage.pool.execute(
            "WITH made AS (INSERT INTO contact_imports (id, tenant_id, request_hash, format, existing, digest, "
            "created_at) SELECT gen_random_uuid(), $1, sha256(''), 'csv', 'update', sha256(''), "
            "now() - make_interval(days => d) FROM unnest(ARRAY[9, 12]) d RETURNING id) "
            "INSERT INTO contact_import_defects (tenant_id, import_id, line, field, code) "
            "SELECT $1, id, n, '', 'nul' FROM made, generate_series(1, 3) n",
            stage.ours.tenant_id,
        )
        await log_retention.retain(stage.context)
        assert await stage.count("contact_imports WHERE created_at > now() - interval '10 days'") == 1
        assert (await stage.count("contact_imports"), await stage.count("contact_import_defects")) == (1, 3)


async def test_rows_of_a_day_nobody_made_a_partition_for_are_kept_and_later_dropped(settings: Settings) -> None:
    async with staged(settings, events_days=10) as stage:
        await stage.pool.execute(
            "INSERT INTO events (name, tenant_id, created_at) SELECT 'x.' || d, $1, now() - make_interval(days => d) "
            "FROM unnest(ARRAY[5, 20]) d",
            stage.ours.tenant_id,
        )
        await log_retention.retain(stage.context)
        assert [row["name"] for row in await stage.rows("SELECT name FROM events")] == ["x.5"]


async def test_however_many_such_rows_there_are_so_many_go_in_one_statement(settings: Settings) -> None:
    async with staged(settings) as stage:
        await stage.pool.execute(
            "INSERT INTO events (name, tenant_id, created_at) "
            "SELECT 'x', $1, now() - interval '20 days' FROM generate_series(1, 5)",
            stage.ours.tenant_id,
        )
        await stage.pool.execute(
            "INSERT INTO inbound_log (id, endpoint_id, provider, received_at, method, url, content_type, headers, "
            "body, created_at) SELECT sha256(n::text::bytea), $1, 'twilio', now(), 'POST', '/', '', '{}', '', "
            "now() - interval '20 days' FROM generate_series(1, 5) n",
            stage.ours.endpoint_id,
        )
        for forget in (partitions.forget_stray_events, webhook_log.forget_strays):
            async with stage.pool.acquire() as connection:
                assert [await forget(connection, 10, 3) for _ in range(3)] == [3, 2, 0]


async def test_a_partition_that_is_in_use_is_left_until_the_next_time(settings: Settings) -> None:
    async with staged(settings, events_days=10) as stage:
        owner = await asyncpg.connect(settings.database_url.get_secret_value())
        try:
            dropped = await old_day(owner, "events", 11)
            async with owner.transaction():
                await owner.execute(f"LOCK TABLE events_{dropped} IN ACCESS SHARE MODE")
                await asyncio.wait_for(log_retention.retain(stage.context), 5)
                assert dropped in await days(stage, "events")
        finally:
            await owner.close()
        await log_retention.retain(stage.context)
        assert dropped not in await days(stage, "events")


async def test_a_reply_nobody_answers_is_asked_for_again(settings: Settings) -> None:
    async with staged(settings, handoff_lease=0.3) as stage:
        conversation = await stage.converse()
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now()")
        queue = ReplyWanted(tenant_id=stage.ours.tenant_id, conversation_id=conversation).queue

        async def asked_twice() -> bool:
            return await stage.depth(queue) >= 2

        async with stage.working("clock"):
            await stage.until(asked_twice, equals=True)


async def test_where_much_waits_already_the_clock_adds_nothing(settings: Settings) -> None:
    async with staged(settings, handoff_lease=30.0) as stage:
        await many_due(stage, 3)
        for _ in range(worker.CROWDED + 10):
            await stage.publisher.publish_body(topology.WORK, topology.WINDOW.name, b"{}", message_id="", type_="")
        await stage.until(stage.depth, topology.WINDOW.name, equals=worker.CROWDED + 10)
        async with stage.working("clock"):
            await asyncio.sleep(1.0)
            assert await stage.count("messages WHERE due_at > now()") == 0
            assert await drained(stage, topology.WINDOW.name) == worker.CROWDED + 10
            await stage.until(stage.count, "messages WHERE due_at > now()", equals=3)


async def test_a_crowded_bulk_queue_keeps_no_customer_waiting_for_an_answer(settings: Settings) -> None:
    async with staged(settings, handoff_lease=30.0) as stage:
        conversation = await stage.converse()
        for lane in topology.LANES:
            await stage.requested(conversation, "hola", lane=lane)
        await stage.pool.execute("UPDATE messages SET status = 'ready', due_at = now()")
        bulk, normal = topology.send_queue("twilio", "bulk"), topology.send_queue("twilio")
        for _ in range(worker.CROWDED + 10):
            await stage.publisher.publish_body(topology.WORK, bulk.name, b"{}", message_id="", type_="")
        await stage.until(stage.depth, bulk.name, equals=worker.CROWDED + 10)
        async with stage.working("clock"):
            await stage.until(stage.depth, normal.name, equals=1)
            assert await stage.count("messages WHERE due_at > now() AND lane = 'bulk'") == 0


async def drained(stage: Stage, queue: str) -> int:
    connection = await aio_pika.connect(stage.settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        purged = await (await channel.get_queue(queue, ensure=False)).purge()
    return purged.message_count or 0
