"""/v1/live: a stream of events over a WebSocket, or else as server-sent events.

Both carry the items of `events.live`, each with `id` and `type` beside what it says.

A WebSocket begins with one frame of its client, and has that one stream:

    {"subscribe": {"names": ["message_received"]}, "after": "…", "key": "plm_…"}

Each member may be left out; `key` is for browsers, which can't send the header Authorization. Close codes: 4000 and the
HTTP status of a problem, which is the last frame; 4008 for a client that is too slow, with its cursor as the reason;
1012 before a restart. After 4008, 1012 and 4503 come again with the last `id` as `after`.

Server-sent events take the input in the query string, and the header Last-Event-ID.
"""

import asyncio
from typing import Any, Final

from aiohttp import hdrs, web

from ingress.api.declaration import registry
from ingress.api.front import Front
from ingress.api.live.engine import Stream
from ingress.api.live.server_sent_events import ServerSentEvents
from ingress.api.live.session import Session
from ingress.api.live.web_socket import WebSocket
from ingress.api.problems import METHOD_NOT_ALLOWED, Problem
from ingress.api.rest import Rest
from shared.process.tasks import cancel
from shared.settings import Settings

PROCEDURE: Final = "events.live"
LEAVING: Final = 3.0  # seconds that streams have for their last item before a stop


class LiveDoor:
    """The transport of /v1/live."""

    def __init__(self, front: Front, rest: Rest, settings: Settings) -> None:
        self._front = front
        self._rest = rest
        self._heartbeat = settings.api_live_heartbeat
        self._streams: set[Stream] = set()
        self._open: set[asyncio.Task[Any]] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a stream until it ends. Raises a Problem where it can't begin."""
        if request.method != hdrs.METH_GET:
            raise Problem(METHOD_NOT_ALLOWED, "Here is only: GET.", headers={"Allow": "GET"})
        task = asyncio.current_task()
        assert task is not None, "a request is answered in a task"
        self._open.add(task)
        session = Session(self._front, request, registry()[PROCEDURE], self._streams, self._heartbeat)
        try:
            if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
                return await WebSocket(session).serve()
            return await ServerSentEvents(session).serve()
        finally:
            session.close()
            self._open.discard(task)

    def refuse(self, problem: Problem) -> web.Response:
        """A problem as REST writes it."""
        return self._rest.refuse(problem)

    async def close(self) -> None:
        """Ask every client to come again, and return once all streams have ended. One that can't is cut off."""
        for stream in self._streams:
            stream.end()
        if self._open:
            await asyncio.wait(self._open, timeout=LEAVING)
            await cancel(self._open)
