"""Every event is published, in the order of commit and without gaps, by one relay at a time."""

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import orjson
import pytest
from aio_pika.abc import AbstractIncomingMessage
from prometheus_client import REGISTRY

from shared import database
from shared.queue import topology
from shared.queue.jobs import EventHappened
from shared.queue.publisher import Publisher
from shared.settings import Settings
from shared.store import events
from tests.support.stage import Stage, staged
from workers.relay import unbound
from workers.relay.lag import Lag
from workers.relay.publishing import runs_of


@dataclass
class Listener:
    """A consumer of all events; `names` are theirs in the order of arrival."""

    items: list[dict[str, object]] = field(default_factory=list)

    @property
    def names(self) -> list[object]:
        return [item["name"] for item in self.items]

    async def count(self) -> int:
        return len(self.items)

    async def take(self, incoming: AbstractIncomingMessage) -> None:
        self.items += orjson.loads(incoming.body)["items"]


@asynccontextmanager
async def listening(stage: Stage, key: str = "#") -> AsyncIterator[Listener]:
    listener = Listener()
    connection = await aio_pika.connect(stage.settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(f"listener-{uuid4().hex}", exclusive=True)
        await queue.bind(topology.EVENTS, key)
        await queue.consume(listener.take, no_ack=True)
        yield listener


async def happen(stage: Stage, *names: str) -> None:
    """One transaction in which these happened."""
    async with stage.pool.acquire() as connection, connection.transaction():
        await events.record(connection, *(events.Event(name, stage.ours.tenant_id) for name in names))


async def holder(stage: Stage) -> object:
    """The relay that is active; None where none is."""
    return await stage.value("SELECT holder FROM relay_cursor WHERE held_until > now()")


def lag() -> float:
    """What /metrics of this process says."""
    found = REGISTRY.get_sample_value("palomar_relay_lag_seconds")
    assert found is not None
    return found


async def lags(at_least: float) -> bool:
    return lag() >= at_least


async def test_events_arrive_in_the_order_in_which_they_happened(settings: Settings) -> None:
    async with staged(settings, relay_batch=7) as stage, listening(stage) as listener, stage.working("relay"):
        names = [f"thing.{n}" for n in range(30)]
        for start in range(0, 30, 3):
            await happen(stage, *names[start : start + 3])
        await stage.until(listener.count, equals=30)
        assert listener.names == names
        cursor = await stage.row("SELECT xid::text, seq FROM relay_cursor")
        assert (int(cursor["xid"]), cursor["seq"]) == (listener.items[-1]["xid"], listener.items[-1]["seq"])


async def test_transactions_are_ordered_by_number_and_not_by_its_letters(settings: Settings) -> None:
    """9 is before 10: read as text it would be after, and what is between them skipped at a batch's end."""
    async with staged(settings, relay_batch=2) as stage, listening(stage) as listener:
        for xid in (100, 9, 11, 99, 10, 101):
            await stage.pool.execute(
                "INSERT INTO events (xid, name, tenant_id) VALUES ($1::text::xid8, 'x.' || $1, $2)",
                str(xid),
                stage.ours.tenant_id,
            )
        async with stage.working("relay"):
            await stage.until(listener.count, equals=6)
        assert listener.names == ["x.9", "x.10", "x.11", "x.99", "x.100", "x.101"]


async def test_a_transaction_that_commits_late_is_not_skipped(settings: Settings) -> None:
    async with staged(settings) as stage, listening(stage) as listener, stage.working("relay"):
        late = await stage.pool.acquire()
        transaction = late.transaction()
        await transaction.start()
        await events.record(late, events.Event("late", stage.ours.tenant_id))
        await happen(stage, "early")  # begun later, committed before
        await asyncio.sleep(0.6)
        assert listener.names == [], "what may still be overtaken waits"
        await transaction.commit()
        await stage.pool.release(late)
        await stage.until(listener.count, equals=2)
        assert listener.names == ["late", "early"]


async def test_one_of_two_relays_is_active_and_the_other_takes_over(settings: Settings) -> None:
    async with staged(settings, relay_lease=1.0) as stage, listening(stage) as listener:
        async with stage.running("relay") as first:
            await stage.until(lambda: _held(stage), equals=True)
            killed = await holder(stage)
            async with stage.working("relay"), stage.working("relay"):
                await happen(stage, "one")
                await stage.until(listener.count, equals=1)
                await asyncio.sleep(1.5)
                assert await holder(stage) == killed, "it renews its lease, though nothing happens"
                first.kill()
                await happen(stage, "two")
                await stage.until(listener.count, equals=2)
                assert await holder(stage) not in (None, killed)
        assert await holder(stage) is None, "stopped in order, it lets another take over at once"
        assert listener.names == ["one", "two"]


async def test_a_relay_that_stood_still_past_its_lease_stands_by(settings: Settings) -> None:
    async with staged(settings, relay_lease=1.0) as stage, listening(stage) as listener, stage.running("relay") as one:
        await stage.until(lambda: _held(stage), equals=True)
        one.send_signal(signal.SIGSTOP)
        await happen(stage, "published by the other")
        async with stage.working("relay"):
            await stage.until(listener.count, equals=1)
            other = await holder(stage)
            one.send_signal(signal.SIGCONT)
            await happen(stage, "still the other")
            await stage.until(lambda: _has(listener, "still the other"), equals=True)
            await asyncio.sleep(1.5)
            assert await holder(stage) == other


async def test_no_lock_of_a_tenants_session_keeps_the_relay_from_its_work(settings: Settings) -> None:
    """Any role that can connect may take any advisory lock, and reads in pg_locks which ones others take."""
    async with staged(settings) as stage, listening(stage) as listener:
        tenant = await database.connect(settings, process="tenant", role="palomar_api")
        try:
            await tenant.execute("SELECT pg_advisory_lock($1)", 0x50414C4F)
            for statement in ("SELECT FROM relay_cursor FOR UPDATE", "LOCK TABLE relay_cursor IN ROW SHARE MODE"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with tenant.transaction():
                        await tenant.execute(statement)
            async with stage.working("relay"):
                await happen(stage, "published")
                await stage.until(listener.count, equals=1)
                taken = await stage.value(
                    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                    "WHERE l.locktype = 'advisory' AND a.application_name LIKE 'palomar relay %'"
                )
                assert taken == 0, "nor is there one to be waited for"
        finally:
            await tenant.close()


async def test_the_lag_grows_behind_an_idle_writer(settings: Settings) -> None:
    """A session has written and left its transaction open: later events of others wait, and /metrics says so."""
    async with staged(settings) as stage, listening(stage) as listener, stage.working("relay"):
        await stage.until(lambda: _held(stage), equals=True)
        await stage.until(lambda: _equal(lag, 0.0), equals=True)  # the gauge of a test before, until it is measured
        idle = await asyncpg.connect(
            settings.database_url.get_secret_value(), server_settings={"role": "palomar_worker"}
        )
        transaction = idle.transaction()
        await transaction.start()
        await idle.execute("SELECT pg_current_xact_id()")
        await happen(stage, "waits")
        await stage.until(lambda: lags(1.5), equals=True)
        assert listener.names == []
        assert 0 < await events.lag(stage.pool) - lag() + 0.5 < 1, "palomar status says the same"
        await transaction.rollback()
        await idle.close()
        await stage.until(listener.count, equals=1)
        await stage.until(lambda: _equal(lag, 0.0), equals=True)


async def test_a_relay_that_stands_by_measures_the_lag_too(settings: Settings) -> None:
    """The active one may hang, or run on a host that is gone."""
    async with staged(settings) as stage:
        await stage.pool.execute("UPDATE relay_cursor SET holder = $1, held_until = now() + '1 minute'", uuid4())
        await happen(stage, "waits")
        async with stage.working("relay"):
            await stage.until(lambda: lags(1.5), equals=True)


def test_the_lag_grows_by_itself_until_it_is_measured_again() -> None:
    """While the broker or the database is away nothing is measured."""
    measured = Lag()
    assert measured.seconds() == 0
    measured.measured(100)
    time.sleep(0.02)
    assert 100.02 <= measured.seconds() < 101
    measured.measured(0)
    assert measured.seconds() == 0


async def test_measuring_the_lag_reads_a_page_or_two_of_a_long_backlog(settings: Settings) -> None:
    async with staged(settings) as stage:
        await stage.pool.execute(
            "INSERT INTO events (name, tenant_id) SELECT 'x', $1 FROM generate_series(1, 20000)", stage.ours.tenant_id
        )
        plan = "\n".join(row[0] for row in await stage.rows(f"EXPLAIN (ANALYZE, BUFFERS) {events._OLDEST}"))
        assert "Seq Scan on events" not in plan, plan
        read = re.search(r"Buffers: shared hit=(\d+)", plan)
        assert read is not None, plan
        assert int(read[1]) < 100, plan


async def _held(stage: Stage) -> bool:
    return await holder(stage) is not None


async def _equal(measure: Callable[[], float], value: float) -> bool:
    return measure() == value


async def test_a_transaction_of_ours_that_does_nothing_is_ended_and_keeps_no_event_back(settings: Settings) -> None:
    async with (
        staged(settings, database_idle_in_transaction=0.5) as stage,
        listening(stage) as listener,
        stage.working("relay"),
    ):
        connection = await stage.pool.acquire()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT pg_current_xact_id()")
        await happen(stage, "kept back")
        await stage.until(listener.count, equals=1, within=5)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as ended:
            await connection.execute("SELECT 1")
        assert database.is_outage(ended.value), "the item at hand is kept, and no attempt is counted"
        with contextlib.suppress(asyncpg.InterfaceError):
            await stage.pool.release(connection)


async def test_a_relay_that_was_killed_goes_on_where_its_cursor_is(settings: Settings) -> None:
    async with staged(settings) as stage, listening(stage) as listener:
        async with stage.running("relay") as process:
            await happen(stage, *(f"first.{n}" for n in range(50)))
            await stage.until(listener.count, equals=50)
            process.kill()
            await process.wait()
        await happen(stage, "second")
        async with stage.working("relay"):
            await stage.until(lambda: _has(listener, "second"), equals=True)
        published = [name for name in listener.names if name != "second"]
        assert sorted(set(map(str, published))) == sorted(f"first.{n}" for n in range(50))


async def _has(listener: Listener, name: str) -> bool:
    return name in listener.names


async def test_nobody_listening_is_fine(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("relay"):
        await happen(stage, "nobody.listens")
        at = await stage.value("SELECT max(seq) FROM events")
        await stage.until(lambda: stage.value("SELECT seq FROM relay_cursor"), equals=at)


@contextmanager
def holding(seconds: float) -> Iterator[list[str]]:
    """Hold back for so long what nobody is bound to; the names of all publishes meanwhile."""
    published: list[str] = []
    publish_body = Publisher.publish_body

    async def counted(self: Publisher, exchange: str, routing_key: str, *args: Any, **named: Any) -> None:
        if exchange == topology.EVENTS:
            published.append(routing_key)
        await publish_body(self, exchange, routing_key, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unbound, "HOLD", seconds)
        patch.setattr("workers.relay.worker.HOLD", seconds)
        patch.setattr(Publisher, "publish_body", counted)
        yield published


async def cursor_at(stage: Stage) -> int:
    return int(await stage.value("SELECT seq FROM relay_cursor"))


async def test_events_that_nobody_is_bound_to_share_a_publish(settings: Settings) -> None:
    with holding(1.5) as published:
        async with staged(settings) as stage, stage.working("relay"):
            await happen(stage, "one")
            await stage.until(lambda: cursor_at(stage), equals=1)
            for _ in range(150):
                await happen(stage, "one", "two")
            await stage.until(lambda: cursor_at(stage), equals=301, within=10)
    assert len(published) < 20, "once a name and second; of what is held longer than an envelope, only the first"


async def test_who_binds_gets_the_events_of_the_second_before(settings: Settings) -> None:
    """Nobody was bound to the name a moment ago, so its next events are held: they are late, and not lost."""
    with holding(4):
        async with staged(settings) as stage, stage.working("relay"):
            await happen(stage, "before")
            await stage.until(lambda: cursor_at(stage), equals=1)
            await happen(stage, *["before"] * 120)
            async with listening(stage) as listener:
                await stage.until(listener.count, equals=120, within=10)
                assert [item["seq"] for item in listener.items] == list(range(2, 122))


async def test_events_held_back_make_none_late_that_somebody_is_bound_to(settings: Settings) -> None:
    async with staged(settings) as stage, listening(stage, "bound.*") as listener:
        with holding(600):
            async with stage.working("relay"):
                await happen(stage, "bound.1", "nobodys")
                await stage.until(lambda: cursor_at(stage), equals=2)
                await happen(stage, "nobodys", "bound.2")
                await stage.until(listener.count, equals=2)
                await happen(stage, "bound.3")
                await stage.until(listener.count, equals=3)
                assert await cursor_at(stage) == 2, "another relay must not pass over the one that is held"
        async with stage.working("relay"):
            await stage.until(lambda: cursor_at(stage), equals=5)
            assert listener.names == ["bound.1", "bound.2", "bound.3", "bound.2", "bound.3"], "again, for once"


async def test_the_cursor_stays_until_the_broker_has_confirmed(settings: Settings) -> None:
    """The exchange is gone: publishing fails, and nothing counts as published until it is there again."""
    async with staged(settings) as stage:
        connection = await aio_pika.connect(stage.settings.amqp_url.get_secret_value())
        async with connection:
            async with stage.working("relay"):
                await happen(stage, "one")
                await stage.until(lambda: stage.value("SELECT seq FROM relay_cursor"), equals=1)
                async with connection.channel() as channel:
                    await channel.exchange_delete(topology.EVENTS)
                await happen(stage, "two")
                await asyncio.sleep(0.8)
                assert await stage.value("SELECT seq FROM relay_cursor") == 1
            await topology.declare_missing(connection, stage.settings.retry_delays)
        async with listening(stage) as listener, stage.working("relay"):
            await stage.until(listener.count, equals=1)
            assert listener.names == ["two"]


async def test_an_event_carries_what_it_is_about_and_no_content(settings: Settings) -> None:
    async with staged(settings, {"reply": {"engine": "none"}}) as stage, listening(stage, "message.*") as listener:
        async with stage.working("persist", "relay"):
            await stage.deliver(stage.said("un secreto"))
            await stage.until(listener.count, equals=1)
        (event,) = listener.items
        message = await stage.row("SELECT * FROM messages")
        assert event["name"] == "message.received"
        for field_ in ("tenant_id", "channel_id", "conversation_id"):
            assert event[field_] == str(message[field_])
        assert event["message_id"] == str(message["id"])
        assert b"secreto" not in orjson.dumps(event)
        assert b"34600000001" not in orjson.dumps(event)


async def test_a_tenant_s_large_or_odd_events_stop_nobody_s(settings: Settings) -> None:
    async with staged(settings) as stage, listening(stage) as listener:
        noise = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 190)"
        insert = f"INSERT INTO events (name, tenant_id, detail) SELECT 'large', $1, jsonb_build_object('x', ({noise}))"
        await stage.pool.execute(f"{insert} FROM generate_series(1, 300)", stage.ours.tenant_id)
        await stage.pool.execute(
            "INSERT INTO events (name, tenant_id, detail) VALUES ('nested', $1, $2), ('no object', $1, $3)",
            stage.ours.tenant_id,
            {"deep": {"er": [1]}, "code": 7},
            ["a list"],
        )
        await happen(stage, "somebody.else")
        async with stage.working("relay"):
            await stage.until(listener.count, equals=303, within=30)
        assert listener.names == ["large"] * 300 + ["nested", "no object", "somebody.else"]
        assert [item["detail"] for item in listener.items[300:302]] == [{"code": 7}, {}]
        with pytest.raises(asyncpg.CheckViolationError, match="check_detail_size"):
            await stage.pool.execute(
                "INSERT INTO events (name, tenant_id, detail) VALUES ('huge', $1, $2)",
                stage.ours.tenant_id,
                {"x": "y" * 9000},
            )


def test_a_run_of_events_is_cut_where_an_envelope_is_full() -> None:
    def event(seq: int, size: int) -> EventHappened:
        return EventHappened(
            xid=1, seq=seq, name="n", tenant_id=uuid4(), occurred_at=datetime.now(UTC), detail={"x": "y" * size}
        )

    by_size = runs_of([event(n, 100_000) for n in range(5)])
    assert [len(run) for run in by_size] == [2, 2, 1]
    by_count = runs_of([event(n, 1) for n in range(250)])
    assert [len(run) for run in by_count] == [100, 100, 50]
