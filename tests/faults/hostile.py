"""A tenant that does its worst by SQL, and whose items all die, while the others' conversations flow."""

import asyncio
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from shared import database
from shared.queue import topology
from tests.faults.customers import Customers
from tests.faults.staging import System

ITEMS: Final = 200  # that fail: more than the circuit breakers' window in each of two processes
FLOW: Final = 8  # messages answered while they do, at least
HOSTILE: Final = (
    "UPDATE conversations SET last_user_message_at = 'infinity', last_message_at = '4713-01-01 BC'",
    "UPDATE conversations SET reply_due_at = now()",
    "UPDATE conversations SET contact_name = repeat('x', 100000), metadata = '{\"n\": 1e400}'",
    "UPDATE channels SET settings = '{\"rate\": 1e400}'",
    'UPDATE channels SET settings = \'{"rate": 1e-15, "reply": 7}\'',
    'UPDATE tenants SET settings = \'{"messages_days": 999999, "consents": {"words": 1e300}}\'',
    "INSERT INTO events (name, tenant_id) SELECT repeat('x', 300), id FROM tenants",
    "INSERT INTO events (name, tenant_id, detail) SELECT 'hostile.event', id, '{\"n\": 1e400}' FROM tenants",
    "UPDATE messages SET status = 'ready'",
    "UPDATE messages SET template = '7', sent_as = '7'",
    "SELECT pg_advisory_lock(1)",
)
_QUEUE = "SELECT queue_message(c.id, 'hola ' || n) FROM conversations c, generate_series(1, $1) AS n"
_BREAK = "UPDATE messages SET media = '[7]' WHERE status = 'queued'"  # which no worker can read


async def hostile_tenant(system: System, customers: Customers) -> str:
    """Its jobs fail until its circuit breaker opens, and conversations must flow meanwhile; then it is deleted."""
    theirs = await system.stage.add_channel()
    await system.stage.converse(ours=theirs, customer="+14155550111")
    refused = await _by_sql(system, theirs.tenant_id)
    await customers.answered_more(FLOW)

    async def breaker_open() -> bool:
        metric = 'palomar_set_apart{queue="window"}'
        return any([await system.metric(name, metric) for name in system.names("window") if system.runs(name)])

    await system.until(breaker_open, equals=True, within=60.0, what="the hostile tenant's circuit breaker open")
    await customers.answered_more(FLOW)
    await system.rows(
        "WITH gone AS (DELETE FROM tenants WHERE id = $1 RETURNING id) SELECT * FROM gone", theirs.tenant_id
    )
    await asyncio.sleep(2 * max(system.settings.retry_delays))  # what still waits finds no row
    dead = await system.take_all(topology.WINDOW.dead_letters)
    others = [body for body in dead if orjson.loads(body)["items"][0].get("tenant_id") != str(theirs.tenant_id)]
    assert not others, f"dead letters of others: {others[:3]}"
    return f"hostile tenant: {refused} of {len(HOSTILE)} statements refused, {len(dead)} of {ITEMS} items dead"


async def _by_sql(system: System, tenant: UUID) -> int:
    """What it does; returns how many of its statements were refused."""
    refused = 0
    connection = await database.connect(system.settings, process="hostile", role="palomar_api")
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(tenant))
            await connection.execute(_QUEUE, ITEMS)
            await connection.execute(_BREAK)
            for statement in HOSTILE:
                try:
                    async with connection.transaction():
                        await connection.execute(statement)
                except (asyncpg.CheckViolationError, asyncpg.InsufficientPrivilegeError):
                    refused += 1
    finally:
        await connection.close()
    return refused
