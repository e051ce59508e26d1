"""The small HTTP server every process has: /healthz, /readyz, /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import prometheus_client
from aiohttp import web

Readiness = Callable[[], dict[str, str]]
"""Names what keeps the process from being ready, each with its reason; empty when it is."""


def add_health(app: web.Application, readiness: Readiness) -> None:
    """Add the three routes to an application."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        missing = readiness()
        status = {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
        return web.json_response(status, status=503 if missing else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
        )

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, *, reuse_port: bool = False) -> AsyncIterator[int]:
    """Serve an application; yields the port, which is a free one where 0 was asked for. Raises OSError if taken."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=30,  # half-sent headers are only closed after it; an hour by default
        # Nobody who calls us compresses; what is left of a refused body would be inflated too, for the whole of:
        auto_decompress=False,
        lingering_time=2.0,
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None)
    try:
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
