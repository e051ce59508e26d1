"""Serves /healthz, /readyz and /metrics of a process over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
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
Serve = Callable[[Readiness, Warnings], AbstractAsyncContextManager[int]]
"""Serves the health of a part while the block runs; yields the port."""


def health(readiness: Readiness, warnings: Warnings = dict) -> Handler:
    """A handler of the three paths; 404 for any other."""
    return _pages({"/readyz": _readyz(readiness, warnings)})


def at_port(host: str, port: int) -> Serve:
    """Serves the health of a process that has one part, at a port of its own (0: a free one)."""
    return lambda readiness, warnings: serving(health(readiness, warnings), host, port)


class Parts:
    """The health of a process that has several parts, at one port.

    /readyz answers for all of them, /readyz/NAME for one: a proxy in front of one part asks for that alone.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._parts: dict[str, tuple[Readiness, Warnings]] = {}
        self._port = 0

    def part(self, name: str) -> Serve:
        """Where this part says how it is, while `serving` runs."""

        @asynccontextmanager
        async def joined(readiness: Readiness, warnings: Warnings) -> AsyncIterator[int]:
            self._parts[name] = (readiness, warnings)
            try:
                yield self._port
            finally:
                del self._parts[name]

        return joined

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve all parts at this port (0: a free one); yields it. Raises OSError where it is taken."""
        pages = {"/readyz": _readyz(lambda: self._missing(*self._names), lambda: self._warnings(*self._names))}
        for name in self._names:
            pages[f"/readyz/{name}"] = _readyz(partial(self._missing, name), partial(self._warnings, name))
        async with serving(_pages(pages), host, port) as self._port:
            yield self._port

    def _missing(self, *names: str) -> dict[str, str]:
        missing: dict[str, str] = {}
        for name in names:
            missing |= self._parts[name][0]() if name in self._parts else {name: "it has not started, or has ended"}
        return missing

    def _warnings(self, *names: str) -> dict[str, str]:
        warnings: dict[str, str] = {}
        for name in names:
            warnings |= self._parts[name][1]() if name in self._parts else {}
        return warnings


def _readyz(readiness: Readiness, warnings: Warnings) -> Handler:
    async def readyz(_: web.BaseRequest) -> web.Response:
        missing = readiness()
        status: dict[str, object] = {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
        if warned := warnings():
            status["warnings"] = warned
        return web.json_response(status, status=503 if missing else 200)

    return readyz


def _pages(more: Mapping[str, Handler]) -> Handler:
    """A handler of /healthz, /metrics and these paths; 404 for any other."""

    async def healthz(_: web.BaseRequest) -> web.Response:
        return web.json_response({"status": "alive"})

    async def metrics(_: web.BaseRequest) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}
        )

    pages: Mapping[str, Handler] = {"/healthz": healthz, "/metrics": metrics, **more}

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
