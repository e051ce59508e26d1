"""Streams events as server-sent events: each item's JSON is the data of a message, whose id is the item's cursor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from aiohttp import hdrs, web

from ingress.api import query_string
from ingress.api.begin import begin
from ingress.api.live.items import Item, Reconnect
from ingress.api.live.session import Session
from ingress.api.open_sockets import OpenSocket, counted

_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx passes each message on at once
}
_LAST_EVENT_ID: Final = "Last-Event-ID"


class ServerSentEvents:
    """One stream. A client that is too slow is cut off, and comes again by itself with its last id."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._overflowed = False

    async def serve(self) -> web.StreamResponse:
        """Raises a Problem where the stream can't begin."""
        session, request = self._session, self._session.request
        caller = await session.caller()
        given = query_string.read(session.procedure.input, query_string.pairs(request.rel_url.raw_query_string))
        if (last := request.headers.get(_LAST_EVENT_ID)) is not None:
            given["lastEventId"] = last
        stream = await session.open(caller, given)
        response = web.StreamResponse(headers=_HEADERS)
        writing = asyncio.current_task()
        assert writing is not None, "a request is answered in a task"

        def overflowed() -> None:
            self._overflowed = True
            writing.cancel()

        stream.when_overflowed = overflowed
        try:
            async with aclosing(stream.items()) as items:
                first = await anext(items)
                await begin(request, response)
                with counted("sse") as socket:
                    await self._write(response, first, items, socket)
        except asyncio.CancelledError:
            if not self._overflowed:
                raise
            writing.uncancel()
        except Exception:
            if not response.prepared:
                raise
            # The status is sent. The client comes again, and gets the problem then.
        if request.transport is not None and self._overflowed:
            request.transport.abort()
        return response

    async def _write(
        self, response: web.StreamResponse, first: Item, others: AsyncIterator[Item], socket: OpenSocket
    ) -> None:
        """Write all items. Raises what ends the stream, and says so to `socket`."""
        try:
            await response.write(_message(first))
            socket.wrote(first)
            async for item in others:
                await response.write(_message(item))
                socket.wrote(item)
                await self._session.check_key()
            socket.closes("restart")
        except asyncio.CancelledError:
            if self._overflowed:
                socket.closes("slow")
            raise
        except ConnectionError:
            raise
        except Exception as error:
            socket.closes(self._session.problem_of(error))
            raise


def _message(item: Item) -> bytes:
    retry = b"retry: %d\n" % item.within_ms if isinstance(item, Reconnect) else b""
    return b"%sid: %s\ndata: %s\n\n" % (retry, str(item.at).encode(), item.json())
