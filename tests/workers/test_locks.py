"""A tenant's session holds a lock for as long as it likes: its own messages wait for it, and no other tenant's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared import database
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from tests.support.meta_payloads import entry, said, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import Ours, Stage, staged

WORKERS = ("persist", "reply", "window", "send", "clock")
SOON = 10.0  # seconds; a statement would wait for 30
GREETS = {"rate": 1000, "reply": {"greeting": "Hola"}}
ROWS = {
    "conversation": "SELECT FROM conversations WHERE tenant_id = $1 FOR UPDATE",
    "channel": "SELECT FROM channels WHERE tenant_id = $1 FOR UPDATE",
    "contact": "SELECT FROM contacts WHERE tenant_id = $1 FOR UPDATE",
    "tenant": "SELECT FROM tenants WHERE id = $1 FOR UPDATE",
    "messages": "SELECT FROM messages WHERE tenant_id = $1 FOR UPDATE",
}


@asynccontextmanager
async def holding(stage: Stage, ours: Ours, statement: str) -> AsyncIterator[None]:
    """A session of the tenant's that locks rows and stands still."""
    async with (
        database.ApiPool(stage.settings, process="test api", size=1) as api,
        api.tenant_transaction(ours.tenant_id) as connection,
    ):
        await connection.execute(statement.replace("$1", f"'{ours.tenant_id}'"))
        yield


async def said_to(stage: Stage, ours: Ours) -> int:
    """What customers said to a tenant."""
    return await stage.count("messages WHERE tenant_id = $1 AND direction = 'inbound'", ours.tenant_id)


async def sent_by(stage: Stage, ours: Ours) -> int:
    return await stage.count("messages WHERE tenant_id = $1 AND status = 'sent'", ours.tenant_id)


@pytest.mark.parametrize("row", ROWS)
async def test_rows_that_a_tenant_holds_keep_its_own_messages_waiting_and_nobody_elses(
    settings: Settings, row: str
) -> None:
    async with staged(settings, GREETS) as stage:
        theirs = stage.ours
        others = [await stage.add_channel(GREETS, address=f"+1415555{number:04}") for number in range(5)]
        async with stage.working(*WORKERS):
            await stage.deliver(stage.said("first", to=theirs))
            await stage.until(sent_by, stage, theirs, equals=1)
            async with holding(stage, theirs, ROWS[row]):
                for turn in range(1, 4):
                    crowd = [stage.said("hola", to=theirs, sender=f"+3461000{number:04}") for number in range(20)]
                    crowd += [stage.said(f"{turn}", to=ours) for ours in (theirs, *others)]
                    await stage.deliver(*crowd)
                    for ours in others:
                        await stage.until(said_to, stage, ours, equals=turn, within=SOON)
                        await stage.until(sent_by, stage, ours, equals=turn, within=SOON)
            await stage.until(said_to, stage, theirs, equals=64, within=60)
            await stage.until(stage.owed, equals=0, within=60)
        assert await stage.dead_letters() == {}
        said_once = "SELECT content FROM messages WHERE tenant_id = $1 AND direction = 'inbound' AND content <> 'hola'"
        contents = [found["content"] for found in await stage.rows(said_once, theirs.tenant_id)]
        assert sorted(contents) == ["1", "2", "3", "first"]
        assert len(await stage.sandbox.messages()) == await stage.count("messages WHERE status = 'sent'")


async def test_at_a_url_that_tenants_share_a_lock_of_one_keeps_no_other_waiting(settings: Settings) -> None:
    """Whose such a webhook is, only its body says."""
    async with staged(settings) as stage:
        app = await add_app(stage)
        numbers = [f"2000000000{number:05}" for number in range(4)]
        theirs, *others = [await add_number(stage, app, number) for number in numbers]

        def post(ours: Ours, number: int) -> WebhookReceived:
            message = said(id=f"wamid.{ours.address}.{number}", **{"from": f"3461000{number:04}"})
            return posted(stage, app, entry(value(message, phone_number_id=ours.address)))

        async with stage.working("persist"):
            async with holding(stage, theirs, ROWS["channel"]):
                for turn in range(3):
                    crowd = [post(theirs, 100 * turn + number) for number in range(1, 31)]
                    await stage.deliver(*crowd, *(post(ours, turn) for ours in others))
                    for ours in others:
                        await stage.until(said_to, stage, ours, equals=turn + 1, within=SOON)
                assert await said_to(stage, theirs) == 0
            await stage.until(said_to, stage, theirs, equals=90, within=60)
        assert await stage.dead_letters() == {}


async def test_what_came_of_a_send_is_recorded_once_its_tenant_lets_go(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send"):
        await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 700})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="sending")
        async with holding(stage, stage.ours, ROWS["messages"]):
            await asyncio.sleep(2 * database.LOCK_WAIT)
            assert await stage.status(message) == "sending"
        await stage.until(stage.status, message, equals="sent", within=SOON)
        assert await stage.bodies() == ["hola"]


@pytest.mark.parametrize("table", ["conversations", "messages", "channels"])
async def test_what_waits_for_a_table_that_a_session_locks_goes_on_once_it_ends(settings: Settings, table: str) -> None:
    """A role that may change a table's rows may also lock it: then all tenants wait, and nothing is lost or dead."""
    async with staged(settings, GREETS) as stage:
        other = await stage.add_channel(GREETS, address="+14155550001")
        async with stage.working(*WORKERS):
            await stage.deliver(stage.said("first"), stage.said("first", to=other))
            for ours in (stage.ours, other):
                await stage.until(sent_by, stage, ours, equals=1)
            async with holding(stage, stage.ours, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"):
                await stage.deliver(*(stage.said(f"{n}", to=ours) for n in range(3) for ours in (stage.ours, other)))
                await asyncio.sleep(3 * database.LOCK_WAIT)
            for ours in (stage.ours, other):
                await stage.until(said_to, stage, ours, equals=4, within=60)
            await stage.until(stage.owed, equals=0, within=60)
        assert await stage.dead_letters() == {}
        assert len(await stage.sandbox.messages()) == await stage.count("messages WHERE status = 'sent'")
