"""Floor of live: a bare aiohttp WebSocket broadcast. POST /broadcast has a JSON array of texts, for every socket.

PORT. It knows no key, no filter, no cursor and no client that is too slow.
"""

import asyncio
import os
import signal

import orjson
import uvloop
from aiohttp import web


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sockets: set[web.WebSocketResponse] = set()

    async def live(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.receive()
        await socket.send_str('{"type":"started"}')
        sockets.add(socket)
        async for _ in socket:
            pass
        sockets.discard(socket)
        return socket

    async def broadcast(request: web.Request) -> web.Response:
        for text in orjson.loads(await request.read()):
            for socket in tuple(sockets):
                await socket.send_str(text)
        return web.Response()

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/live", live)
    app.router.add_post("/broadcast", broadcast)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=1024).start()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
