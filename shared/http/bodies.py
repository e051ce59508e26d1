"""Reads the bodies of requests within the bounds on bytes in hand."""

import asyncio
import time

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from shared.http.bounds import Bounds, OverBoundError, Place
from shared.http.sources import Sources


class Refused(Exception):
    """A body that is read no further. Its reason: `too_large`, `stalled`, `broken_body`, `crowded` or `slow`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Bodies:
    """All bodies of one process."""

    def __init__(self, bounds: Bounds, sources: Sources) -> None:
        self._bounds = bounds
        self._sources = sources

    async def read(self, request: web.BaseRequest, endpoint: int, limit: int, within: float) -> tuple[bytes, Place]:
        """Read a body of at most `limit` bytes within so many seconds. Returns it with its place, to be released.

        `endpoint` is the number against whose bound it counts: an endpoint's, or its tenant's. Raises Refused.
        """
        size = request.content_length
        if size is not None and size > limit:
            raise Refused("too_large")
        try:
            # Not request.read(), which keeps the body in memory as long as the request.
            if request.content.is_eof():  # all of it came with the headers, as nearly always
                body = request.content.read_nowait()
                return body, self._bounds.enter(endpoint, len(body), time.monotonic())
            return await self._arriving(request, endpoint, size or 0, limit, within)
        except OverBoundError:
            raise Refused("crowded") from None
        except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError, OSError):
            raise Refused("broken_body") from None

    def hold(self, endpoint: int, size: int) -> Place:
        """A place for bytes that are there already, to be released. Raises Refused."""
        try:
            return self._bounds.enter(endpoint, size, time.monotonic())
        except OverBoundError:
            raise Refused("crowded") from None

    def leave(self, place: Place) -> None:
        """Release the place of a body."""
        self._bounds.leave(place)

    async def _arriving(
        self, request: web.BaseRequest, endpoint: int, size: int, limit: int, within: float
    ) -> tuple[bytes, Place]:
        """Read a body that is still arriving. Raises OverBoundError, Refused, or an error of the connection."""
        loop, bounds = asyncio.get_running_loop(), self._bounds
        address = self._sources.address(request.remote, request.headers.get("X-Forwarded-For"))
        hurry = asyncio.timeout(within)

        def give_up() -> None:
            if not hurry.expired():  # else its time ran out in this very iteration of the loop, and it ends by itself
                hurry.reschedule(loop.time())

        place = bounds.expect(endpoint, size, address, time.monotonic(), give_up)
        try:
            async with hurry:
                body = await self._whole(request, limit, place)
            if place.lost is not None:
                raise Refused(place.lost)
        except TimeoutError:
            bounds.leave(place)
            raise Refused(place.lost or "stalled") from None
        except BaseException:
            bounds.leave(place)
            raise
        bounds.whole(place)
        return body, place

    async def _whole(self, request: web.BaseRequest, limit: int, place: Place) -> bytes:
        content = request.content
        if request.headers.get("Expect", "").lower() == "100-continue":  # the client sends the body after this
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the 100 is no part of the answer
        body = bytearray()
        while not content.at_eof() and place.lost is None:
            body += await content.readany()
            if len(body) > limit:  # it had announced no length, or a smaller one
                raise Refused("too_large")
            self._bounds.arrived(place, len(body), time.monotonic())
        return bytes(body)


def hang_up(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Discard the rest of a body and close the connection.

    What still arrives is dropped and takes no memory. The connection ends once its sender has had time to read the
    answer.
    """
    response.force_close()
    content = request.content
    if content.exception() is None:
        content.read_nowait()
    request.protocol.close()
