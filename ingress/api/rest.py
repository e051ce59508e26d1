"""REST under /v1: each procedure at the path that its name gives (rest_paths.py), problems as RFC 9457 writes them."""

from typing import Any

import orjson
from aiohttp import web

from ingress.api import query_string
from ingress.api.answers import Answer
from ingress.api.caller import Caller
from ingress.api.exports import Exports
from ingress.api.front import Front
from ingress.api.problems import INVALID_INPUT, METHOD_NOT_ALLOWED, UNKNOWN_PATH, FieldError, Problem, invalid
from ingress.api.rest_paths import Found, Route, Routes
from ingress.api.uploads import Uploads


class Rest:
    """The transport of everything below /v1."""

    def __init__(self, front: Front, routes: Routes, exports: Exports, uploads: Uploads) -> None:
        self._front = front
        self._routes = routes
        self._exports = exports
        self._uploads = uploads

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request. Raises a Problem."""
        export = self._exports.find(request.path)
        if export is not None:
            return await self._exports.answer(request, export, query_string.pairs(request.rel_url.raw_query_string))
        found = self._routes.find(request.path)
        if found is None:
            raise Problem(UNKNOWN_PATH, "No procedure has this path. The reference lists them: /docs.")
        route = _route(found, request.method)
        caller = await self._front.caller(request)
        try:
            caller.count()
            answer = await self._call(request, route, found.id, caller)
        except Problem as problem:
            problem.headers |= caller.rate_limit_headers()
            raise
        return _response(request, route, answer, caller.rate_limit_headers())

    async def _call(self, request: web.BaseRequest, route: Route, in_path: str | None, caller: Caller) -> Answer:
        if route.takes_file:
            pairs = query_string.pairs(request.rel_url.raw_query_string)
            return await self._uploads.answer(request, route.procedure, caller, pairs)
        if not route.has_body:
            given = query_string.read(route.procedure.input, query_string.pairs(request.rel_url.raw_query_string))
            return await self._execute(request, route, _with_id(given, route, in_path), caller)
        async with self._front.json(request, caller) as body:
            return await self._execute(request, route, _with_id(body, route, in_path), caller)

    async def _execute(self, request: web.BaseRequest, route: Route, given: object, caller: Caller) -> Answer:
        return await self._front.executor.execute(
            caller,
            route.procedure,
            given,
            idempotency_key=request.headers.get("Idempotency-Key"),
            if_match=request.headers.get("If-Match"),
        )

    def refuse(self, problem: Problem) -> web.Response:
        """A problem as this transport writes it."""
        return as_response(problem)


def as_response(problem: Problem) -> web.Response:
    """A problem as RFC 9457 writes it."""
    return web.Response(
        status=problem.type.status,
        body=orjson.dumps(problem.document()),
        content_type="application/problem+json",
        headers=problem.headers,
    )


def _route(found: Found, method: str) -> Route:
    route = found.by_method.get("GET" if method == "HEAD" else method)
    if route is None:
        allowed = ", ".join(sorted(found.by_method))
        raise Problem(METHOD_NOT_ALLOWED, f"Here is only: {allowed}.", headers={"Allow": allowed})
    return route


def _with_id(given: Any, route: Route, in_path: str | None) -> Any:
    """The input with the id of the path."""
    if given is None:
        given = {}
    if not isinstance(given, dict):
        wrong = FieldError("#", "The body is no object.", "Give an object: {…}.")
        raise Problem(INVALID_INPUT, wrong.detail, errors=[wrong])
    if route.id_field is None or in_path is None:
        return given
    if given.get(route.id_field, in_path) != in_path:
        raise invalid(route.id_field, "It is not the id of the path.", "Leave it out.")
    return {**given, route.id_field: in_path}


def _response(request: web.BaseRequest, route: Route, answer: Answer, headers: dict[str, str]) -> web.Response:
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    if answer.version is not None:
        headers["ETag"] = answer.version
        if route.method == "GET" and answer.version in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
    return web.Response(status=route.status, body=answer.body, content_type="application/json", headers=headers)
