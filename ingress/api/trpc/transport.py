"""The transport of everything below /trpc: tells what a request wants, and answers queries and mutations over HTTP.

tRPC's links read the body of an answer whatever its status is, so that every answer here is JSON in tRPC's shape.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import hdrs, web

from ingress.api.begin import begin
from ingress.api.caller import Caller
from ingress.api.declaration import AnyProcedure
from ingress.api.failures import problem_of
from ingress.api.front import Front
from ingress.api.problems import METHOD_NOT_ALLOWED, Problem
from ingress.api.trpc import requests
from ingress.api.trpc.calls import Asked, CallRunner, Outcome, key_of_call
from ingress.api.trpc.connections import Connections
from ingress.api.trpc.requests import Calls
from ingress.api.trpc.router_types import SERVED, Version, router_types
from ingress.api.trpc.shapes import failed
from ingress.api.trpc.sockets import Sockets
from ingress.api.trpc.sse import EventStreams
from ingress.api.trpc.streams import Lines

_VARY: Final[Mapping[str, str]] = {"Vary": "trpc-accept, accept"}
MOST_ANSWERED: Final = 16 * 1024**2  # bytes of the answers to one batch, which are written once all are there
_METHODS: Final = ("GET", "HEAD", "POST")


class Trpc:
    """Calls of tRPC's clients."""

    def __init__(
        self,
        front: Front,
        procedures: Mapping[str, AnyProcedure],
        stop: asyncio.Event,
    ) -> None:
        """`stop` is set once the process is to stop."""
        self._front = front
        self._procedures = procedures
        self._runner = CallRunner(front.executor, procedures)
        self._written: dict[Version, str] = {}  # the types that were asked for
        connections = Connections()
        self._streams = EventStreams(front, connections, stop)
        self._sockets = Sockets(front, self._runner, connections, stop)

    def _types(self, version: Version) -> str:
        if version not in self._written:
            self._written[version] = router_types(self._procedures, version)
        return self._written[version]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request."""
        if request.method not in _METHODS:
            allowed = ", ".join(_METHODS)
            raise Problem(METHOD_NOT_ALLOWED, f"Here is only: {allowed}.", headers={"Allow": allowed})
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._sockets.answer(request)
        version = SERVED.get(request.path.removeprefix(f"{requests.ROOT}/"))
        if version is not None and request.method != hdrs.METH_POST:
            return web.Response(text=self._types(version), content_type="text/plain", charset="utf-8")
        calls = requests.read(request.rel_url.raw_path, request.rel_url.raw_query_string, request.headers)
        if request.method == hdrs.METH_HEAD:
            return web.Response(status=204, headers=_VARY)
        found = self._procedures.get(calls.paths[0])
        if (
            found is not None
            and found.kind == "subscription"
            and request.method == hdrs.METH_GET
            and not calls.is_batch
        ):
            return await self._streams.answer(request, found, calls)
        return await self._answer_calls(request, calls)

    def refuse(self, problem: Problem) -> web.Response:
        """A problem that concerns the whole request. The clients take it for each of their calls."""
        return _response(problem.type.status, failed(problem), problem.headers)

    async def _answer_calls(self, request: web.BaseRequest, calls: Calls) -> web.StreamResponse:
        caller = None
        try:
            caller = await self._front.caller(request)
            caller.count()
            if request.method == hdrs.METH_GET:
                return await self._run(request, calls, caller, calls.in_query())
            async with self._front.json(request, caller) as body:
                return await self._run(request, calls, caller, body)
        except ConnectionError:
            raise
        except Exception as error:
            problem = problem_of(error)
            if caller is not None:
                problem.headers |= caller.rate_limit_headers()
            if calls.form != "stream10":
                return self.refuse(problem)
            return _response(problem.type.status, _for_each(calls, problem), problem.headers)

    async def _run(self, request: web.BaseRequest, calls: Calls, caller: Caller, given: Any) -> web.StreamResponse:
        asked = _asked(request, calls, given)
        if calls.form != "json":
            return await self._stream(request, calls, caller, asked)
        outcomes = dict([one async for one in self._runner.each(caller, asked, most=MOST_ANSWERED)])
        return _answered(calls, [outcomes[place] for place in range(len(asked))], caller.rate_limit_headers())

    async def _stream(
        self, request: web.BaseRequest, calls: Calls, caller: Caller, asked: Sequence[Asked]
    ) -> web.StreamResponse:
        """Write each answer as soon as it is there. The status has gone before, so it is 200."""
        response = web.StreamResponse(headers={**caller.rate_limit_headers(), **_VARY})
        response.content_type = "application/json"
        lines = Lines(calls.form, len(asked))
        await begin(request, response)
        await response.write(lines.head())
        async for place, outcome in self._runner.each(caller, asked):
            await response.write(lines.one(place, outcome.body))
        await response.write_eof(lines.tail())
        return response


def _asked(request: web.BaseRequest, calls: Calls, given: Any) -> list[Asked]:
    key = request.headers.get("Idempotency-Key") if request.method == hdrs.METH_POST else None
    return [
        Asked(
            path,
            one,
            may_change=request.method == hdrs.METH_POST,
            idempotency_key=key_of_call(key, path, place, is_batch=calls.is_batch),
            if_match=None if calls.is_batch else request.headers.get("If-Match"),
            is_counted=place == 0,
        )
        for place, (path, one) in enumerate(zip(calls.paths, calls.inputs(given), strict=True))
    ]


def _answered(calls: Calls, outcomes: Sequence[Outcome], rate_limit: Mapping[str, str]) -> web.Response:
    """The response to a request whose calls led to these outcomes. 207 is of a batch whose calls differ in status."""
    headers = dict(rate_limit)
    if all(one.replayed for one in outcomes):
        headers["Idempotent-Replayed"] = "true"
    if not calls.is_batch:
        return _response(outcomes[0].status, outcomes[0].body, {**outcomes[0].headers, **headers})
    waits = [int(one.headers["Retry-After"]) for one in outcomes if "Retry-After" in one.headers]
    if waits:
        headers["Retry-After"] = str(max(waits))
    statuses = {one.status for one in outcomes}
    status = statuses.pop() if len(statuses) == 1 else 207
    return _response(status, b"[" + b",".join(one.body for one in outcomes) + b"]", headers)


def _for_each(calls: Calls, problem: Problem) -> bytes:
    """A problem of the whole request as version 10 reads it from a stream, where only calls have answers."""
    lines = Lines(calls.form, len(calls.paths))
    return b"".join(lines.one(place, failed(problem, path)) for place, path in enumerate(calls.paths)) + lines.tail()


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers={**headers, **_VARY})
