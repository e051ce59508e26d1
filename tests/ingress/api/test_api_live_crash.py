"""A crash of PostgreSQL loses no event of a live client, though it gives numbers of transactions anew."""

import asyncio
import os
import signal

import psycopg
import pytest

from ops.local.stack import Stack
from shared import database
from shared.settings import Settings
from tests.support.api import ApiStage, Tenant, serving
from tests.support.live import connected, happen, numbers

pytestmark = pytest.mark.alone

CRASHES = 5  # at most; nearly always the first one shows it

INSERT = """
INSERT INTO events (name, tenant_id, detail) VALUES ('message.sent', $1, '{"number": 1}') RETURNING xid::text
"""


def wal_writer(stack: Stack) -> int:
    """The process that takes to the disk what no commit has taken there."""
    with psycopg.connect(stack.postgres.admin_url) as admin:
        (found,) = admin.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").fetchone() or (0,)
    return int(found)


async def insert(pool: database.Pool, tenant_id: object, *, commit: bool) -> int:
    """Insert an event, or only try to; the number of the transaction."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        number = int(await connection.fetchval(INSERT, tenant_id))
        await (transaction.commit() if commit else transaction.rollback())
    return number


async def crash(stack: Stack, api: ApiStage, ana: Tenant) -> bool:
    """Crash PostgreSQL while a client listens, and let an event come after it, which the client has to see.

    Whether its number is one that was given before the crash: anything that commits takes the numbers to the disk.
    """
    async with connected(api.client, ana) as client:
        await client.next("started")
        await happen(api.pool, ana, "message.sent", number=0)
        await client.events(1)
        writer = wal_writer(stack)
        os.kill(writer, signal.SIGSTOP)
        for _ in range(20):  # some of whose numbers others may be given
            rolled_back = await insert(api.pool, ana.id, commit=False)
        for _ in range(3):  # its place may go on, as nothing runs any more
            last = (await client.next("heartbeat"))["id"]
        os.kill(writer, signal.SIGKILL)  # for PostgreSQL a crash: it recovers from what is on the disk
        async with asyncio.timeout(30):
            while True:
                try:
                    committed = await insert(api.pool, ana.id, commit=True)
                    break
                except Exception as error:
                    if not database.is_outage(error):
                        raise
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            assert numbers(await client.events(1)) == [1]
    async with connected(api.client, ana, {"after": last}) as client, asyncio.timeout(20):
        assert (await client.next("started"))["recovered"] is True
        assert numbers(await client.events(1)) == [1]
    return committed <= rolled_back


async def test_the_events_of_a_number_that_is_given_anew_are_seen(stack: Stack, settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_live_heartbeat": 0.1, "relay_poll": 0.05})) as api:
        ana = await api.tenant()
        for _ in range(CRASHES):
            if await crash(stack, api, ana):
                return
    pytest.fail(f"no number was given anew in {CRASHES} crashes: this test has shown nothing")
