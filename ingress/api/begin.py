"""Begins an answer that is written piece by piece, as all such answers do."""

from typing import Final

from aiohttp import web

from ingress.api.cors import Cors

CORS: Final = web.RequestKey("cors", Cors)
"""The port's Cors, in each request."""
_BEGUN: Final = web.RequestKey("begun", bool)


async def begin(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Send the status and the headers, with those that let a page of an allowed origin read the answer."""
    request[CORS].allow(request, response)
    request[_BEGUN] = True
    await response.prepare(request)


def has_begun(request: web.BaseRequest) -> bool:
    """Whether an answer has begun, so that another one would become a part of it."""
    return request.get(_BEGUN, False) or request.writer.output_size > 0  # a WebSocket has no `begin`
