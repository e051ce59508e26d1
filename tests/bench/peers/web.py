"""The HTTP server of both peers: a handler for the webhook, and /readyz."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.bench.peers.job import ACKNOWLEDGEMENT, Inbound, read


async def serve(take: Callable[[Inbound], Awaitable[None]]) -> None:
    """Serve until SIGTERM. `take` does what is to be done before a webhook is acknowledged; where it raises, the
    provider gets 503 and comes again. Several processes may serve one PORT; PALOMAR_HEALTH_PORT, PALOMAR_PUBLIC_URL."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def webhook(request: web.Request) -> web.Response:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        url = f"{os.environ['PALOMAR_PUBLIC_URL']}{request.path}"
        message = read(url, form, request.headers.get("X-Twilio-Signature", ""))
        if message is None:
            return web.Response(status=403)
        try:
            await take(message)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            return web.Response(status=503)
        return web.Response(body=ACKNOWLEDGEMENT, content_type="text/xml")

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", webhook)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    for port in {os.environ["PORT"], os.environ["PALOMAR_HEALTH_PORT"]}:
        await web.TCPSite(runner, "127.0.0.1", int(port), reuse_port=True).start()
    await stop.wait()
    await runner.cleanup()
