"""`palomar status`: the jobs that wait, the processes that run, and what to do where something is wrong."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import pytest

from ingress.receive.spool import Spool
from ingress.receive.spool_file import Row
from ops import connections
from ops.local.processes import ask, find
from ops.snapshot import Spool as Spooled
from ops.status import look_into_spool, take
from shared import database as db
from shared.database import new_id
from shared.queue import topology
from shared.settings import Settings
from shared.store import channels
from shared.store.events import Event, record
from tests.support.commands import ROOT, broker_channel, palomar, webhook
from tests.support.ports import free_port


def as_json(environment: Mapping[str, str], code: int = 0) -> dict[str, Any]:
    result = palomar(environment, "status", "--json")
    assert result.returncode == code, result.stderr
    taken = json.loads(result.stdout)
    assert isinstance(taken, dict)
    return taken


def queue(taken: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in taken["queues"] if one["name"] == name)
    return found


@asynccontextmanager
async def worker(environment: Mapping[str, str], *names: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m workers …` as a person starts it in a second shell."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", *names),
        cwd=environment["PALOMAR_STATE_DIR"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def test_the_sandbox_is_asked_where_it_speaks_http(tmp_path: Path) -> None:
    smtp, http = sorted(free_port() for _ in range(2))  # the lower one would be found first
    environment = {"PORT": str(http), "PALOMAR_SANDBOX_SMTP_PORT": str(smtp), "PALOMAR_STATE_DIR": str(tmp_path)}
    sandbox = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.sandbox", cwd=ROOT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            asked = await ask(find(tmp_path))
            if asked and asked[0].ready:
                break
            await asyncio.sleep(0.2)
        assert [(one.name, one.port) for one in asked] == [("ops.sandbox", http)]
    finally:
        sandbox.kill()
        await sandbox.wait()


async def add_conversation(connection: db.Connection) -> tuple[UUID, UUID, UUID]:
    """(tenant, channel, conversation)."""
    tenant_id, channel_id, conversation_id = new_id(), new_id(), new_id()
    await channels.add_tenant(connection, tenant_id, "Tienda")
    await connection.execute(
        "INSERT INTO channels (id, tenant_id, provider, kind, address, credentials) "
        "VALUES ($1, $2, 'twilio', 'whatsapp', '+14155238886', '')",
        channel_id,
        tenant_id,
    )
    await connection.execute(
        "INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, reply_due_at) "
        "VALUES ($1, $2, $3, 'twilio', '+1', '+1', now() + interval '1 hour')",
        conversation_id,
        tenant_id,
        channel_id,
    )
    return tenant_id, channel_id, conversation_id


async def add_messages(settings: Settings) -> UUID:
    """A conversation with messages in every unfinished state; returns its channel, which is stopped."""
    async with db.make_pool(settings, process="test") as pool, pool.acquire() as connection, connection.transaction():
        tenant_id, channel_id, conversation_id = await add_conversation(connection)
        states = ["queued", "queued", "ready", "sending", "held", "held", "held", "unknown", "sent"]
        for place, status in enumerate(states):
            lane = "bulk" if place == 0 else "normal"
            await connection.execute(
                "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, "
                "lane, out_seq) VALUES ($1, $2, $3, $4, 'twilio', 'outbound', 'assistant', $5, $6, $7)",
                *(new_id(), tenant_id, conversation_id, channel_id, status, lane, place),
            )
        await connection.execute(
            "UPDATE messages SET due_at = now() - interval '1 minute' WHERE status = 'ready' AND tenant_id = $1",
            tenant_id,
        )
        await connection.execute(
            "INSERT INTO message_statuses (id, tenant_id, channel_id, external_id, status) "
            "VALUES ($1, $2, $3, 'SM1', 'sent')",
            *(new_id(), tenant_id, channel_id),
        )
        await record(connection, Event("message.sent", tenant_id))
        await channels.stop(connection, tenant_id, channel_id, "20003")
    return channel_id


async def test_it_tells_what_waits_and_what_to_do(environment: dict[str, str], settings: Settings) -> None:
    stopped = await add_messages(settings)
    async with connections.publisher(settings, "test") as publisher:
        await publisher.publish(*(webhook(number) for number in range(250)))
    async with broker_channel(settings) as channel:
        dead = await channel.get_exchange(topology.DEAD_LETTERS, ensure=False)
        await dead.publish(aio_pika.Message(b"{}"), topology.REPLY.name)
        retry = await channel.get_exchange("retry.10m", ensure=False)
        await retry.publish(aio_pika.Message(b"{}"), topology.REPLY.name)
    taken = as_json(environment)
    persist = queue(taken, "persist")
    assert 3 <= persist["envelopes"] < 250
    assert (persist["items"], persist["at_least"]) == (persist["envelopes"], True)
    assert [queue(taken, name)["items"] for name in ("reply", "window", "send.twilio", "send.twilio.bulk")] == [
        1,
        2,
        2,
        0,
    ]
    assert (queue(taken, "reply")["dead"], taken["retrying"]) == (1, 1)
    rows = taken["rows"]
    counted = ("overdue", "held", "unknown", "replies_owed", "parked_receipts", "set_aside")
    assert [rows[name] for name in counted] == [1, 3, 1, 1, 1, 4]
    assert 0 < rows["relay_lag"] < 60
    assert {"receive", "persist", "clock"} <= set(taken["missing"])
    assert taken["clock_tick_age"] is None
    shown = palomar(environment, "status").stdout
    assert f"≥ {persist['envelopes']}" in shown
    for advice in (
        "No process consumes persist. Start its worker: python -m workers persist",
        "reply.dead holds 1. See why: ./palomar dead show reply",
        "1 rows are overdue. Is a clock running?",
        "4 rows are parked: their jobs are dead letters.",
        f"Channel {stopped} is stopped. Try it: ./palomar channels test {stopped}",
    ):
        assert any(line.startswith(advice) for line in taken["advice"])
        assert advice in shown


async def test_it_finds_the_processes_and_asks_them(environment: dict[str, str], settings: Settings) -> None:
    async with (
        connections.publisher(settings, "test"),
        worker(environment, "clock"),
        worker(environment, "window", "reply"),
    ):
        async with asyncio.timeout(30):
            while True:
                taken = await take(settings)
                if len(taken.processes) == 2 and all(one.ready for one in taken.processes) and taken.clock_tick_age:
                    break
                await asyncio.sleep(0.1)
        assert [one.name for one in taken.processes] == ["clock", "window reply"]
        assert all(one.port for one in taken.processes)
        assert taken.clock_tick_age < 5
        assert "clock" not in taken.missing
        assert {one.name: one.consumers for one in taken.queues or ()} == {
            **{one.name: 0 for one in topology.QUEUES},
            "window": 1,
            "reply": 1,
            "reply.llm": 1,
        }
        shown = await asyncio.to_thread(palomar, environment, "status")
        assert "window reply" in shown.stdout
        assert "does not run on this machine" in shown.stdout  # persist, for one
    assert (await take(settings)).processes == ()


async def test_a_process_that_is_not_ready_says_why(environment: dict[str, str], settings: Settings) -> None:
    nowhere = {**environment, "DATABASE_URL": "postgresql://palomar@127.0.0.1:1/palomar"}
    async with worker(nowhere, "window") as process:
        async with asyncio.timeout(30):
            while True:
                taken = await take(settings)
                if taken.processes and "database" in taken.processes[0].missing:
                    break
                await asyncio.sleep(0.1)
        assert f"window (process {process.pid}) is not ready: database: PostgreSQL does not answer" in taken.advice
        process.send_signal(signal.SIGSTOP)
        taken = await take(settings)
        assert taken.processes[0].missing == {"http": "does not answer (TimeoutError)"}


async def test_the_spool_is_counted_whether_ingress_lives_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    limit = 2**30
    assert look_into_spool(folder, limit) == Spooled(0, 0, 0)
    spool = Spool(folder, limit=limit)
    await spool.maintain()
    for number in range(3):
        await spool.put(Row(float(number), b"", b"x" * 1000))
    alive = look_into_spool(folder, limit)
    assert (alive.webhooks, alive.unreadable, alive.trouble) == (3, 0, None)
    assert alive.bytes > 3000
    assert "1000 bytes" in str(look_into_spool(folder, 1000).trouble)
    await spool.put(Row(4.0, b"", b"y"))  # a look blocks no writer
    await spool.close()
    (folder / "broken.db").write_bytes(b"this is no database at all" * 100)
    dead = look_into_spool(folder, limit)
    assert (dead.webhooks, dead.unreadable) == (4, 1)


@pytest.mark.parametrize("broker", [True, False])
@pytest.mark.parametrize("database", [True, False])
async def test_what_is_away_hides_nothing_of_the_rest(
    environment: dict[str, str], settings: Settings, broker: bool, database: bool
) -> None:
    async with connections.publisher(settings, "test"):
        pass
    environment |= {} if broker else {"AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
    environment |= {} if database else {"DATABASE_URL": "postgresql://palomar@127.0.0.1:1/palomar"}
    taken = as_json(environment, code=0 if broker and database else 1)
    assert (taken["queues"] is not None, taken["rows"] is not None) == (broker, database)
    result = palomar(environment, "status")
    assert result.returncode == (0 if broker and database else 1)
    assert ("RabbitMQ does not answer. Start it with ./palomar up, or set AMQP_URL." in result.stdout) != broker
    assert ("PostgreSQL does not answer. Start it with ./palomar up, or set DATABASE_URL." in result.stdout) != database
    assert "0 webhooks, 0 bytes" in result.stdout


async def test_a_session_that_locks_a_table_for_everybody_is_named(
    environment: dict[str, str], settings: Settings
) -> None:
    async with connections.publisher(settings, "test"):
        pass
    connection = await db.connect(settings, process="test api", role="palomar_api")
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE conversations, messages IN ACCESS EXCLUSIVE MODE")
            taken = await asyncio.to_thread(as_json, environment, 1)
        pid = connection.get_server_pid()
        (advice,) = [line for line in taken["advice"] if "locked" in line]
        assert f"session {pid} of role palomar_owner locks conversations, messages" in advice
        assert f"SELECT pg_terminate_backend({pid});" in advice
        assert taken["queues"] is not None
    finally:
        await connection.close()
    assert as_json(environment)["rows"] is not None


async def test_it_goes_on_looking(environment: dict[str, str], settings: Settings) -> None:
    async with connections.publisher(settings, "test"):
        pass
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", "status", "--watch", "--json"),
        cwd=environment["PALOMAR_STATE_DIR"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(120):
        lines = [json.loads(await process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, complaint = await process.communicate()
    assert all(line["answers"] for line in lines)
    assert b"Traceback" not in complaint
