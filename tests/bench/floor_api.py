"""Floor of api: a bare aiohttp handler with the same SQL and json.dumps. It knows no key, no limit and no model.

DATABASE_URL, PORT, PALOMAR_API_POOL, and the tenant as the one argument. The same SQL is all of it: a transaction of
this tenant, without which the database shows no row.
"""

import asyncio
import json
import os
import signal
import sys
from uuid import UUID

import asyncpg
import uvloop
from aiohttp import web

from shared.store import contact_records

SET_TENANT = "SELECT set_config('app.tenant_id', $1, true)"


async def main(tenant_id: UUID) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    size, settings = int(os.environ["PALOMAR_API_POOL"]), {"role": "palomar_api"}
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=0, max_size=size, server_settings=settings
    ) as pool:

        async def get(request: web.Request) -> web.Response:
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchval(SET_TENANT, str(tenant_id))
                row = await connection.fetchrow(contact_records._GET, tenant_id, UUID(request.match_info["id"]))
            assert row is not None
            return web.Response(text=json.dumps({"contact": dict(row)}, default=str), content_type="application/json")

        async def page(request: web.Request) -> web.Response:
            limit = int(request.query["limit"])
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchval(SET_TENANT, str(tenant_id))
                rows = await connection.fetch(contact_records._PAGE, tenant_id, None, None, limit)
            text = json.dumps({"contacts": [dict(row) for row in rows]}, default=str)
            return web.Response(text=text, content_type="application/json")

        async def ready(_: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        app.router.add_get("/v1/contacts", page)
        app.router.add_get("/v1/contacts/{id}", get)
        app.router.add_get("/readyz", ready)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"])).start()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main(UUID(sys.argv[1])))
