"""What every transport does with a request before its calls: whose key it is, and its body within bounds."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

import orjson
from aiohttp import web

from ingress.api.caller import Caller
from ingress.api.downloads import Downloads
from ingress.api.execute import Accepted, Executor
from ingress.api.problems import (
    PARSE_ERROR,
    TIMEOUT,
    TOO_LARGE,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from shared.http.bodies import Bodies, Refused
from shared.http.bounds import Place
from shared.http.sources import Sources
from shared.settings import Settings

BUSY: Final = 5.0  # seconds; Retry-After of a body that found no room
EXPORTS: Final = 16  # under way in a process, over whatever transport
EXPORTS_OF_A_TENANT: Final = 4
LONGEST_EXPORT: Final = 3600.0  # seconds: some ten million messages to a client that reads quickly


class Front:
    """Finds callers and reads bodies."""

    def __init__(self, executor: Executor, bodies: Bodies, sources: Sources, settings: Settings) -> None:
        self.executor = executor
        self._bodies = bodies
        self._sources = sources
        self._limit = settings.api_body_limit
        self._within = settings.api_body_timeout
        self._exports = Downloads("exports", at_once=EXPORTS, of_a_tenant=EXPORTS_OF_A_TENANT, longest=LONGEST_EXPORT)

    async def caller(self, request: web.BaseRequest, key: str | None = None) -> Caller:
        """The caller with the key in the header Authorization, or with `key`, where another one carries it."""
        return await self.executor.authenticate(key or bearer(request), self.address(request))

    async def check_key(self, request: web.BaseRequest, key: str | None = None) -> None:
        """Raise the problem of a key that holds no longer, of what goes on for long. While that can't be told, it
        holds: the database is away, or too many wrong keys came from the client's address."""
        try:
            await self.caller(request, key)
        except Problem as problem:
            if problem.type is UNAUTHENTICATED:
                raise

    def address(self, request: web.BaseRequest) -> str | None:
        """The sender's address behind our own proxies."""
        return self._sources.address(request.remote, request.headers.get("X-Forwarded-For"))

    def hold(self, caller: Caller, size: int) -> Place:
        """Count so many bytes in hand against the bound of bodies, until they are `release`d. Raises a Problem."""
        try:
            return self._bodies.hold(caller.number, size)
        except Refused as refused:
            raise self._refusal(refused.reason) from None

    def release(self, place: Place) -> None:
        """Count these bytes no longer."""
        self._bodies.leave(place)

    def room(self, accepted: Accepted) -> AbstractAsyncContextManager[None]:
        """Room for what a subscription streams, within whose block its items are sent. Raises a Problem.

        A file reads as quickly as its client, and there is a bound for it; other subscriptions wait for events.
        """
        if accepted.procedure.is_file:
            return self._exports.one(accepted.call.tenant_id)
        return nullcontext()

    @asynccontextmanager
    async def json(self, request: web.BaseRequest, caller: Caller) -> AsyncIterator[Any]:
        """The body as JSON's Python objects, and None where it is empty; its bytes count until the block ends.

        Raises a Problem.
        """
        if not request.can_read_body:
            yield None
            return
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding.")
        try:
            body, place = await self._bodies.read(request, caller.number, self._limit, self._within)
        except Refused as refused:
            raise self._refusal(refused.reason) from None
        try:
            content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if body and content_type != "application/json":
                raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send JSON, with the header Content-Type: application/json.")
            yield parsed(body) if body else None
        finally:
            self._bodies.leave(place)

    def _refusal(self, reason: str) -> Problem:
        match reason:
            case "too_large":
                return Problem(TOO_LARGE, f"A body has at most {self._limit} bytes.")
            case "stalled":
                return Problem(TIMEOUT, f"The body did not arrive within {self._within:g} seconds.")
            case "broken_body":
                return Problem(PARSE_ERROR, "The body does not arrive as its headers announce it.")
        return Problem(UNAVAILABLE, "Too much is arriving at the moment. Send it again.", retry_after=BUSY)


def bearer(request: web.BaseRequest) -> str | None:
    """The key in the header Authorization; None where there is none."""
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def parsed(text: bytes | str) -> Any:
    """JSON as Python objects. Raises the problem of what is none, or is nested too deeply."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(
            PARSE_ERROR, f"This is no JSON: {error.msg}, line {error.lineno}, column {error.colno}."
        ) from None
