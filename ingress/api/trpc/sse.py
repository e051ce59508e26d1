"""Answers httpSubscriptionLink: a subscription as server-sent events, whose client connects again by itself.

EventSource has no headers, so that the key may be in the query string: `connectionParams`. What goes wrong is an event
too, for EventSource shows its user no other answer than a stream.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

import orjson
from aiohttp import hdrs, web

from ingress.api.begin import begin
from ingress.api.declaration import AnyProcedure
from ingress.api.failures import problem_of
from ingress.api.front import Front, bearer, parsed
from ingress.api.models import Output
from ingress.api.open_sockets import OpenSocket, counted
from ingress.api.problems import Problem
from ingress.api.trpc.connections import Connections
from ingress.api.trpc.requests import Calls
from ingress.api.trpc.shapes import error_shape
from ingress.api.trpc.subscriptions import PAUSE, Client, accept, event_id, items, key_in, leaving, resumed

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # of nginx, which would hold events back
}
# A client that gets nothing for so long connects again.
_CONNECTED: Final = orjson.dumps({"reconnectAfterInactivityMs": int(PAUSE * 3 * 1000)})


class EventStreams:
    """All subscriptions over server-sent events."""

    def __init__(self, front: Front, connections: Connections, stop: asyncio.Event) -> None:
        self._front = front
        self._connections = connections
        self._stop = stop

    async def answer(self, request: web.BaseRequest, procedure: AnyProcedure, calls: Calls) -> web.StreamResponse:
        """The stream of a subscription, until it ends, its client leaves or the process stops."""
        response = web.StreamResponse(headers=_HEADERS)
        await begin(request, response)
        with counted("trpc_sse") as open_socket:
            await self._serve(request, procedure, calls, response, open_socket)
        await response.write_eof()
        response.force_close()
        return response

    async def _serve(
        self,
        request: web.BaseRequest,
        procedure: AnyProcedure,
        calls: Calls,
        response: web.StreamResponse,
        open_socket: OpenSocket,
    ) -> None:
        following = asyncio.create_task(self._follow(request, procedure, calls, response, open_socket))
        stopping = asyncio.create_task(leaving(self._stop))
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            open_socket.closes("ended" if following.done() else "restart")
        except ConnectionError:
            raise
        except Exception as error:
            problem = problem_of(error, procedure)
            open_socket.closes(problem)
            await response.write(_refusal(problem, procedure.name))
        finally:
            following.cancel()
            stopping.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)

    async def _follow(
        self,
        request: web.BaseRequest,
        procedure: AnyProcedure,
        calls: Calls,
        response: web.StreamResponse,
        open_socket: OpenSocket,
    ) -> None:
        """Write the items of a subscription until it ends."""
        parameters = calls.query.get("connectionParams")
        key = bearer(request) or key_in(None if parameters is None else parsed(parameters))
        seen = request.headers.get(hdrs.LAST_EVENT_ID) or calls.query.get("lastEventId")
        client = Client(request, key, self._front)
        (given,) = calls.inputs(calls.in_query())
        accepted = await accept(client, procedure, resumed(procedure, given, seen))
        with self._connections.taken(accepted.call.caller):
            async with self._front.room(accepted), aclosing(items(client, accepted)) as following:
                await response.write(_event("connected", _CONNECTED))
                async for item in following:
                    await response.write(_event("ping", b"") if item is None else _item(item))
                    if item is not None:
                        open_socket.wrote()
        await response.write(_event("return", b""))


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _item(item: Output) -> bytes:
    """An item. EventSource gives an item without an id the last one's, so that a subscription has ids for all or none.

    The client makes `{id, data}` of it, as an item of a Tracked class is.
    """
    found = event_id(item)
    if found is None:
        return b"data: %b\n\n" % item.model_dump_json(by_alias=True).encode()
    data = orjson.dumps(item.model_dump(mode="json", by_alias=True)["data"])
    return b"data: %b\nid: %b\n\n" % (data, found.encode())


def _refusal(problem: Problem, path: str) -> bytes:
    """An error. The client connects again after one of the server, and ends with any other."""
    wait = problem.headers.get("Retry-After")
    retry = b"" if wait is None else b"retry: %d\n" % (int(wait) * 1000)
    return retry + _event("serialized-error", orjson.dumps(error_shape(problem, path)))
