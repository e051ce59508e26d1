"""What a WebSocket and server-sent events share: whose stream it is, and that its key is still valid."""

import time
from typing import Any

from aiohttp import web

from ingress.api.caller import Caller
from ingress.api.declaration import AnyProcedure
from ingress.api.front import Front, bearer
from ingress.api.live.engine import Stream
from ingress.api.problems import Problem
from ingress.api.procedures.events import FollowEvents


class Session:
    """One client of /v1/live."""

    def __init__(
        self,
        front: Front,
        request: web.BaseRequest,
        procedure: AnyProcedure,
        streams: set[Stream],
        check_every: float,
    ) -> None:
        """`streams` are those that are open; a key is tried again every `check_every` seconds."""
        self.request = request
        self.procedure = procedure
        self.key = bearer(request)
        self._front = front
        self._streams = streams
        self._stream: Stream | None = None
        self._check_every = check_every
        self._checked_at = time.monotonic()

    async def caller(self) -> Caller:
        """Whose key it is. Raises a Problem."""
        return await self._front.caller(self.request, self.key)

    async def open(self, caller: Caller, given: Any) -> Stream:
        """The stream that an input of events.live asks for. Raises a Problem."""
        accepted = await self._front.executor.open(caller, self.procedure, given)
        call, follow = accepted.call, accepted.given
        assert isinstance(follow, FollowEvents)
        self._stream = call.live.follow(call.tenant_id, call.transaction, follow.wanted(), follow.cursor())
        self._streams.add(self._stream)
        return self._stream

    async def check_key(self) -> None:
        """Raise the problem of a key that was revoked or has expired since; tried again at most every so often."""
        now = time.monotonic()
        if now - self._checked_at < self._check_every:
            return
        self._checked_at = now
        await self._front.check_key(self.request, self.key)

    def problem_of(self, error: Exception) -> Problem:
        """The problem that answers an error of its stream."""
        return self._front.executor.problem_of(error, self.procedure)

    def close(self) -> None:
        if self._stream is not None:
            self._streams.discard(self._stream)
