"""Answers every request to the API's port: chooses the transport by the path's beginning, and adds what all share.

A transport is a line in `mounts`, and a class with two methods. Whatever it raises becomes a problem in its own form.
Providers' webhooks are not served here, nor is this API where they are.
"""

from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

from aiohttp import hdrs, web

from ingress.api.begin import CORS, has_begun
from ingress.api.cors import Cors
from ingress.api.failures import problem_of
from ingress.api.problems import INVALID_INPUT, UNKNOWN_PATH, Problem
from shared.http.bodies import hang_up
from shared.process.log import get_logger

SMALLEST_COMPRESSED: Final = 1024  # bytes

log = get_logger(__name__)


class Transport(Protocol):
    """A way to call procedures over HTTP."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request. It may raise a Problem, or by mistake anything."""

    def refuse(self, problem: Problem) -> web.StreamResponse:
        """A problem as this transport's clients read it."""


class Api:
    """All transports of one port."""

    def __init__(self, mounts: Mapping[str, Transport], cors: Cors, anywhere_else: Transport) -> None:
        """`mounts`: a path or the first step of it → its transport. `anywhere_else` refuses what has no transport."""
        self._mounts = mounts
        self._cors = cors
        self._anywhere_else = anywhere_else

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        request[CORS] = self._cors
        response = self._cors.preflight(request) or await self._answer(request)
        if has_begun(request) and not response.prepared:  # it says why the one that had begun can't be ended
            _break_off(request)
        self._cors.allow(request, response)
        if not response.prepared:
            _compress(request, response)
        if not request.content.is_eof():
            hang_up(request, response)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        _, _, path = request.path.partition("/")
        transport = self._mounts.get(path) or self._mounts.get(path.partition("/")[0])
        try:
            if transport is None:
                raise Problem(UNKNOWN_PATH, "Nothing is here. The procedures are below /v1.")
            if "\0" in path:
                raise Problem(INVALID_INPUT, "The path holds the character NUL.")
            return await transport.answer(request)
        except ConnectionError:  # the client has left
            raise
        except Exception as error:
            return (transport or self._anywhere_else).refuse(problem_of(error))


def _break_off(request: web.BaseRequest) -> NoReturn:
    """End the connection in the midst of an answer, so that no client takes what it has for the whole."""
    step = request.path.split("/")[1]
    log.error("answer broken off", transport=step)
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionError("an answer has been broken off")


def _compress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Compress what is long enough for it to be worth it, and say that the answer depends on what was asked for."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return
    if hdrs.CONTENT_ENCODING in response.headers:  # it is so already, and says so
        return
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    if len(response.body) >= SMALLEST_COMPRESSED and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
        response.enable_compression(web.ContentCoding.gzip)
