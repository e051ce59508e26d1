"""Serves /healthz, /readyz and /metrics of a process over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import prometheus_client
from aiohttp import web

BACKLOG: Final = 1024  # connections that the kernel has accepted and we have not yet

Readiness = Callable[[], dict[str, str]]
"""The parts of the process that are not ready, each with its reason; empty when all are."""
Warnings = Callable[[], dict[str, str]]
"""The parts that an operator should look at although the process is ready, each with its reason."""
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers any request."""


def health(readiness: Readiness, warnings: Warnings = dict) -> Handler:
    """A handler of the three paths; 404 for any other."""

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
            return web.Response(status=405, text="Only GET is allowed here.\n", headers={"Allow": "GET, HEAD"})
        return await page(request)

    return answer


@asynccontextmanager
async def serving(
    handler: Handler,
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    longest_line: int = 8190,
    kind: Callable[..., web.Server] = web.Server,
) -> AsyncIterator[int]:
    """Serve every request with a handler; yields the port, a free one for port 0. Raises OSError where it is taken.

    `longest_line` bounds the request's first line and each of its headers, in bytes. `kind` makes aiohttp's server, or
    one with bounds of its own.

    This uses aiohttp's low-level server: with so few paths the router, match objects and hooks of an application would
    only cost time with each webhook (`palomar bench ingress`).
    """
    server = kind(
        handler,
        access_log=None,
        max_line_size=longest_line,
        max_field_size=longest_line,
        keepalive_timeout=30,  # also ends connections with half-sent headers; an hour by default
        # No provider compresses its requests. The rest of a refused body would be inflated too, for lingering_time.
        auto_decompress=False,
        lingering_time=2.0,
    )
    runner = web.ServerRunner(server, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_port=reuse_port or None)
    try:
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
