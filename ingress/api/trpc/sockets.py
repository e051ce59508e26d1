"""Answers wsLink: queries, mutations and subscriptions over one WebSocket.

Version 11 sends its key in a first frame (`connectionParams`), version 10 in the query string (`token`) or a header. A
key that no longer holds ends what comes after. Frames are text: version 10 reads each as JSON, so that signs of life
from here are the WebSocket's own pings.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from ingress.api.caller import Caller
from ingress.api.failures import problem_of
from ingress.api.front import Front, bearer
from ingress.api.open_sockets import OpenSocket, counted
from ingress.api.problems import CONFLICT, INVALID_INPUT, METHOD_NOT_ALLOWED, TIMEOUT, Problem
from ingress.api.trpc import frames
from ingress.api.trpc.calls import AT_ONCE, Asked, CallRunner
from ingress.api.trpc.connections import Connections
from ingress.api.trpc.frames import Id, Message
from ingress.api.trpc.requests import MOST_CALLS, parameters
from ingress.api.trpc.subscriptions import Client, accept, items, key_in, leaving, resumed
from shared.http.connections import unproven

HEARTBEAT: Final = 30.0  # seconds between pings; a client that does not answer one is gone
FIRST_FRAME: Final = 10.0  # seconds within which the connection parameters must come
MOST_SUBSCRIPTIONS: Final = 100  # of one socket
LONGEST_FRAME: Final = 256 * 1024  # bytes; aiohttp holds a frame until all of it is there, also a stranger's
GRACE: Final = 5.0  # seconds that a client has for leaving by itself once it was told to

Work = Callable[[Message], Coroutine[Any, Any, None]]


class Sockets:
    """All sockets of one process."""

    def __init__(self, front: Front, runner: CallRunner, connections: Connections, stop: asyncio.Event) -> None:
        self._front = front
        self._runner = runner
        self._connections = connections
        self._stop = stop

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a socket until it is closed."""
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=LONGEST_FRAME, compress=False)
        if not socket.can_prepare(request):
            raise Problem(INVALID_INPUT, "This is no handshake of a WebSocket of version 13.")
        with suppress(ConnectionError):  # the client may leave at any time
            await socket.prepare(request)
            with counted("trpc_websocket") as open_socket:
                await self._serve(request, socket, open_socket)
        return socket

    async def _serve(self, request: web.BaseRequest, socket: web.WebSocketResponse, open_socket: OpenSocket) -> None:
        try:
            client = await self._client(request, socket)
            caller = await client.caller()
            with self._connections.taken(caller):
                await _Session(socket, open_socket, client, caller, self._runner, self._stop).serve()
        except ConnectionError:
            raise
        except Exception as error:
            problem = problem_of(error)
            open_socket.closes(problem)
            await socket.send_str(frames.refused(None, problem))
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
        await socket.close()

    async def _client(self, request: web.BaseRequest, socket: web.WebSocketResponse) -> Client:
        """Who has opened the socket, by the key of the handshake or of the first frame. Raises a Problem."""
        query = parameters(request.rel_url.raw_query_string)
        key = bearer(request) or query.get("token")
        if "connectionParams" in query:
            with unproven(request):
                first = await _first(socket)
            key = key_in(frames.parameters(first)) or key
        return Client(request, key, self._front)


async def _first(socket: web.WebSocketResponse) -> str:
    try:
        async with asyncio.timeout(FIRST_FRAME):
            frame = await socket.receive()
    except TimeoutError:
        raise Problem(TIMEOUT, "The connection parameters did not come in time.") from None
    if frame.type is not WSMsgType.TEXT:
        raise Problem(INVALID_INPUT, "The first frame is no text.")
    return str(frame.data)


class _Session:
    """One socket of a known client."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        open_socket: OpenSocket,
        client: Client,
        caller: Caller,
        runner: CallRunner,
        stop: asyncio.Event,
    ) -> None:
        """`caller` is the client as the socket was opened."""
        self._socket = socket
        self._open_socket = open_socket
        self._client = client
        self._caller = caller
        self._runner = runner
        self._stop = stop
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[Id, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Answer frames until the socket is closed."""
        departure = asyncio.create_task(self._leave())
        try:
            async for frame in self._socket:
                if frame.type is WSMsgType.TEXT:
                    await self._take(frame.data)
        finally:
            departure.cancel()
            working = [departure, *self._calls, *self._subscriptions.values()]
            for task in self._subscriptions.values():
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _leave(self) -> None:
        """Before the process stops, ask the client to connect again: it moves its subscriptions, then closes."""
        await leaving(self._stop)
        self._open_socket.closes("restart")
        await self._socket.send_str(frames.RECONNECT)
        await asyncio.sleep(GRACE)
        await self._socket.close(code=WSCloseCode.SERVICE_RESTART)

    async def _take(self, frame: str) -> None:
        """Begin what a frame asks for. While too many calls are in hand, nothing more is read."""
        if frame == frames.PING:
            return await self._socket.send_str(frames.PONG)
        if frame == frames.PONG:
            return None
        try:
            several = frames.messages(frame)
            for read in several:
                try:
                    await self._begin(frames.message(read), len(frame) // len(several))
                except Problem as problem:
                    await self._socket.send_str(frames.refused(frames.id_of(read), problem))
        except Problem as problem:
            await self._socket.send_str(frames.refused(None, problem))

    async def _begin(self, message: Message, size: int) -> None:
        """Begin what a message of so many bytes asks for. Raises a Problem."""
        if message.method == "subscription.stop":
            return await self._end(message.id)
        if message.method == "subscription":
            return self._subscribe(message, size)
        if len(self._calls) >= MOST_CALLS:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        task = self._start(self._call, message, size)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return None

    def _start(self, work: Work, message: Message, size: int) -> asyncio.Task[None]:
        """Begin to work on a message, whose bytes count until that ends. Raises the problem of too many."""
        front = self._client.front
        place = front.hold(self._caller, size)
        task = asyncio.create_task(work(message))
        task.add_done_callback(lambda _: front.release(place))
        return task

    async def _call(self, message: Message) -> None:
        """Answer a query or mutation."""
        try:
            caller = await self._client.caller()
            asked = Asked(message.path, message.given, may_change=message.method == "mutation")
            async with self._turns:  # until the client has taken the answer, or one that does not read has all in hand
                outcome = await self._runner.run(caller, asked)
                await self._socket.send_str(frames.answered(message.id, outcome.body))
                self._open_socket.wrote()
        except ConnectionError:
            pass
        except Exception as error:
            with suppress(ConnectionError):
                await self._socket.send_str(frames.refused(message.id, problem_of(error), message.path))
                self._open_socket.wrote()

    def _subscribe(self, message: Message, size: int) -> None:
        if message.id in self._subscriptions:
            raise Problem(CONFLICT, "A subscription with this id goes on. Stop it first.")
        if len(self._subscriptions) >= MOST_SUBSCRIPTIONS:
            raise Problem(INVALID_INPUT, f"A socket has at most {MOST_SUBSCRIPTIONS} subscriptions.")
        task = self._start(self._follow, message, size)
        self._subscriptions[message.id] = task
        task.add_done_callback(lambda _: self._forget(message.id, task))

    def _forget(self, id_: Id, task: asyncio.Task[None]) -> None:
        if self._subscriptions.get(id_) is task:
            del self._subscriptions[id_]

    async def _end(self, id_: Id) -> None:
        """Stop a subscription. Nothing of it is sent after the word that it has stopped."""
        task = self._subscriptions.pop(id_, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            await self._socket.send_str(frames.state(id_, "stopped"))

    async def _follow(self, message: Message) -> None:
        """Send the items of a subscription. The next one is awaited once the last one is on its way."""
        try:
            procedure = self._runner.procedure(message.path)
            if procedure.kind != "subscription":
                raise Problem(METHOD_NOT_ALLOWED, f"{message.path} is a {procedure.kind}.")
            given = resumed(procedure, message.given, message.last_event_id)
            accepted = await accept(self._client, procedure, given)
            async with self._client.front.room(accepted), aclosing(items(self._client, accepted)) as following:
                await self._socket.send_str(frames.state(message.id, "started"))
                async for one in following:
                    if one is not None:
                        await self._socket.send_str(frames.item(message.id, one))
                        self._open_socket.wrote()
            await self._socket.send_str(frames.state(message.id, "stopped"))
        except ConnectionError:
            pass
        except Exception as error:
            await self._socket.send_str(frames.refused(message.id, problem_of(error), message.path))
