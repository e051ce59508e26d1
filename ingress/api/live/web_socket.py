"""Streams events over a WebSocket: each item is a text frame. ingress/api/live/door.py has the protocol."""

import asyncio
from contextlib import aclosing, suppress
from typing import Any, Final

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from ingress.api.caller import Caller
from ingress.api.front import parsed
from ingress.api.live.engine import Stream
from ingress.api.live.items import Reconnect
from ingress.api.live.session import Session
from ingress.api.open_sockets import OpenSocket, counted
from ingress.api.problems import INVALID_INPUT, PARSE_ERROR, TIMEOUT, Problem, invalid
from shared.http.connections import unproven
from shared.process.tasks import cancel

TOO_SLOW: Final = 4008
OF_PROBLEMS: Final = 4000  # and the problem's HTTP status
PING: Final = 25.0  # seconds between two pings of the protocol, by which a client that has vanished is noticed
FIRST_FRAME: Final = 10.0  # seconds that a client has for it
CLOSING: Final = 5.0  # seconds that a client has to read what it was sent; then it is cut off
LARGEST_FRAME: Final = 64 * 1024  # bytes that a client may send
_MEMBERS: Final = frozenset({"subscribe", "after", "key"})


class WebSocket:
    """One socket."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._closing = False
        self._overflowed = False
        self._counted: OpenSocket
        self._writing: asyncio.Task[None] | None = None
        self._socket = web.WebSocketResponse(
            timeout=CLOSING, heartbeat=PING, compress=False, max_msg_size=LARGEST_FRAME
        )

    async def serve(self) -> web.StreamResponse:
        """Raises a Problem where a key in the header is not valid; whatever else is wrong closes the socket."""
        socket, request = self._socket, self._session.request
        caller = None if self._session.key is None else await self._session.caller()
        if not socket.can_prepare(request):
            raise Problem(PARSE_ERROR, "This is no handshake of a WebSocket.")
        await socket.prepare(request)
        try:
            with counted("websocket") as self._counted:
                await self._serve(caller)
        finally:
            if (transport := request.transport) is not None:  # what is in its buffer may still be read
                asyncio.get_running_loop().call_later(CLOSING, transport.abort)
        return socket

    async def _serve(self, caller: Caller | None) -> None:
        try:
            stream = await self._begin(caller)
        except Problem as problem:
            await self._refuse(problem)
            return
        writing = self._writing = asyncio.create_task(self._write(stream))
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await cancel([writing])
                    await self._refuse(Problem(INVALID_INPUT, "A socket has one stream. Open another socket."))
            if self._closing:  # which ended the loop; the client's answer is still to come
                await asyncio.wait([writing])
        finally:
            await cancel([writing])
            self._writing = None  # whose end refers to this socket: only the collector would find the two

    async def _begin(self, caller: Caller | None) -> Stream:
        """The stream that the first frame asks for. Raises a Problem."""
        try:
            with unproven(self._session.request):
                async with asyncio.timeout(FIRST_FRAME):
                    message = await self._socket.receive()
        except TimeoutError:
            raise Problem(TIMEOUT, f"Send the frame that subscribes within {FIRST_FRAME:g} seconds.") from None
        if message.type is not WSMsgType.TEXT:
            raise Problem(PARSE_ERROR, 'Send a text frame: {"subscribe": {}}.')
        frame = parsed(message.data)
        if not isinstance(frame, dict) or not isinstance(frame.get("subscribe", {}), dict):
            raise Problem(INVALID_INPUT, 'Send an object: {"subscribe": {}}.')
        for name in frame:
            if name not in _MEMBERS:
                raise invalid(name, "There is no such member.", f"Give some of: {', '.join(sorted(_MEMBERS))}.")
        given: dict[str, Any] = {**frame.get("subscribe", {})}
        if "after" in frame:
            given["after"] = frame["after"]
        if caller is None:
            self._session.key = frame["key"] if isinstance(frame.get("key"), str) else None
            caller = await self._session.caller()
        return await self._session.open(caller, given)

    async def _write(self, stream: Stream) -> None:
        """Send items until the stream ends, then close the socket."""
        stream.when_overflowed = self._overflow
        code, reason = int(WSCloseCode.SERVICE_RESTART), b""
        try:
            async with aclosing(stream.items()) as items:
                async for item in items:
                    await self._socket.send_frame(item.json(), WSMsgType.TEXT)
                    self._counted.wrote(item)
                    if not isinstance(item, Reconnect):
                        await self._session.check_key()
            self._counted.closes("restart")
        except asyncio.CancelledError:
            if not self._overflowed or self._writing is None:
                raise
            self._writing.uncancel()
            code, reason = TOO_SLOW, str(stream.at).encode()
            self._counted.closes("slow")
        except ConnectionError:  # the client has left
            return
        except Exception as error:
            await self._refuse(self._session.problem_of(error))
            return
        await self._close(code, reason)

    def _overflow(self) -> None:
        self._overflowed = True
        if self._writing is not None:
            self._writing.cancel()  # it may be waiting for a client that does not read

    async def _refuse(self, problem: Problem) -> None:
        self._counted.closes(problem)
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._socket.send_str(_frame(problem))
        await self._close(OF_PROBLEMS + problem.type.status, problem.type.name.encode())

    async def _close(self, code: int, reason: bytes) -> None:
        self._closing = True
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._socket.close(code=code, message=reason, drain=False)


def _frame(problem: Problem) -> str:
    return orjson.dumps({"type": "problem", "problem": problem.document()}).decode()
