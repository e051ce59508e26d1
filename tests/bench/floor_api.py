"""Floor of api: a bare aiohttp handler with the same SQL and json.dumps. It knows no key, no limit and no model.

DATABASE_URL, AMQP_URL, PORT, PALOMAR_API_POOL, and the tenant as the one argument. Each handler does what any code
would have to, in a transaction of this tenant, without which the database shows no row:

- contacts.get and contacts.list: our SELECT.
- conversations.send: lock the conversation with what decides on a send, insert the message with its place in the
  conversation, record the event, commit; then publish the message's job, and wait until the broker has confirmed it.

It uses asyncpg as its documentation shows it: a pool, `transaction()`, and one statement after the other.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import uvloop
from aio_pika.abc import AbstractExchange
from aiohttp import web

from shared.queue import topology
from shared.queue.jobs import SendRequested
from shared.store import contact_records, conversation_records, events
from shared.store.messages import outbound

SET_TENANT = "SELECT set_config('app.tenant_id', $1, true)"
HANDOFF = timedelta(seconds=20)


class Floor:
    """The handlers."""

    def __init__(self, tenant_id: UUID, pool: "asyncpg.Pool[asyncpg.Record]", exchange: AbstractExchange) -> None:
        self._tenant_id = tenant_id
        self._pool = pool
        self._exchange = exchange

    @asynccontextmanager
    async def _transaction(self) -> "AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]":
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(SET_TENANT, str(self._tenant_id))
            yield connection

    async def get(self, request: web.Request) -> web.Response:
        async with self._transaction() as connection:
            row = await connection.fetchrow(contact_records._GET, self._tenant_id, UUID(request.match_info["id"]))
        assert row is not None
        return _answer({"contact": dict(row)})

    async def page(self, request: web.Request) -> web.Response:
        limit = int(request.query["limit"])
        async with self._transaction() as connection:
            rows = await connection.fetch(contact_records._PAGE, self._tenant_id, None, None, limit)
        return _answer({"contacts": [dict(row) for row in rows]})

    async def send(self, request: web.Request) -> web.Response:
        content = json.loads(await request.read())["content"]
        tenant_id, conversation_id, message_id = self._tenant_id, UUID(request.match_info["id"]), uuid4()
        async with self._transaction() as connection:
            to = await connection.fetchrow(conversation_records._LOCK_TO_SEND, tenant_id, conversation_id)
            assert to is not None
            assert to["stopped_by"] is None
            values = (
                *(message_id, tenant_id, conversation_id, to["channel_id"], to["provider"], f"api:{message_id}"),
                *(content, "assistant", "text", "[]", None, "normal", None, None, None, "{}", HANDOFF),
            )
            row = await connection.fetchrow(outbound._ADD_AND_READ, *values)
            assert row is not None
            about = ([tenant_id], [to["channel_id"]], [conversation_id], [message_id], [None], ["{}"])
            await connection.execute(events._RECORD, ["message.queued"], *about)
        job = {
            "tenant_id": tenant_id,
            "channel_id": to["channel_id"],
            "conversation_id": conversation_id,
            "message_id": message_id,
        }
        body = json.dumps({"type": SendRequested.type, "items": [job]}, default=str).encode()
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._exchange.publish(message, topology.WINDOW.name, mandatory=True)
        return _answer({"message": dict(row)})


def _answer(document: object) -> web.Response:
    return web.Response(text=json.dumps(document, default=str), content_type="application/json")


async def _ready(_: web.Request) -> web.Response:
    return web.Response()


async def main(tenant_id: UUID) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    size, settings = int(os.environ["PALOMAR_API_POOL"]), {"role": "palomar_api"}
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=size, server_settings=settings) as pool,
        await aio_pika.connect(os.environ["AMQP_URL"]) as broker,
    ):
        channel = await broker.channel(publisher_confirms=True, on_return_raises=True)
        floor = Floor(tenant_id, pool, await channel.get_exchange(topology.WORK, ensure=False))
        routes: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "/v1/contacts": floor.page,
            "/v1/contacts/{id}": floor.get,
            "/readyz": _ready,
        }
        app = web.Application()
        for path, handler in routes.items():
            app.router.add_get(path, handler)
        app.router.add_post("/v1/conversations/{id}/send", floor.send)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"])).start()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main(UUID(sys.argv[1])))
