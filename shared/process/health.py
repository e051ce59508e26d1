"""The small HTTP server every process has: /healthz, /readyz, /metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import prometheus_client
from aiohttp import web

Readiness = Callable[[], dict[str, str]]
"""Names what keeps the process from being ready, each with its reason; empty when it is."""
Warnings = Callable[[], dict[str, str]]
"""Names what a person should look at though the process is ready, each with its reason."""
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers a request, whatever is in it."""


def health(readiness: Readiness, warnings: Warnings = dict) -> Handler:
    """Answers with one of the three, by the path; 404 where it is another one."""

    async def healthz(_: web.BaseRequest) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.BaseRequest) -> web.Response:
        missing = readiness()
        status: dict[str, object] = {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
        if warned := warnings():
            status["warnings"] = warned
        return web.json_response(status, status=503 if missing else 200)

    async def metrics(_: web.BaseRequest) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
        )

    pages: Mapping[str, Handler] = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        page = pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="Nothing is here.\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="Only GET is of use here.\n", headers={"Allow": "GET, HEAD"})
        return await page(request)

    return answer


@asynccontextmanager
async def serving(handler: Handler, host: str, port: int, *, reuse_port: bool = False) -> AsyncIterator[int]:
    """Have a handler answer every request; yields the port, a free one where 0 was asked for. Raises OSError if taken.

    By aiohttp's low-level server: with so few paths, its router, match objects and hooks would only cost time, and each
    webhook pays it (`palomar bench ingress`).
    """
    server = web.Server(
        handler,
        access_log=None,
        keepalive_timeout=30,  # half-sent headers are only closed after it; an hour by default
        # Nobody who calls us compresses; what is left of a refused body would be inflated too, for the whole of:
        auto_decompress=False,
        lingering_time=2.0,
    )
    runner = web.ServerRunner(server, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None)
    try:
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
