"""Receives files as the bodies of requests, piece by piece: however long a file is, a process holds little of it.

Only procedures of the kind `upload` take one. A body may be compressed with gzip; what it inflates to is bounded.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from time import monotonic, perf_counter
from typing import Final
from uuid import UUID

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from ingress.api import idempotency, query_string
from ingress.api.answers import Answer, answer_of
from ingress.api.call import SentFile
from ingress.api.caller import Caller
from ingress.api.declaration import AnyProcedure
from ingress.api.execute import CALLS, SECONDS, Executor
from ingress.api.front import Front
from ingress.api.problems import PARSE_ERROR, TIMEOUT, TOO_LARGE, UNAVAILABLE, UNSUPPORTED_MEDIA_TYPE, Problem
from shared.settings import Settings

AT_ONCE: Final = 16  # files of a process
OF_A_TENANT: Final = 2  # of these: a client that comes again may find its broken connection still there
LONGEST: Final = 3600.0  # seconds that a file is received; then its client is to come again
AGAIN: Final = 5.0  # seconds; Retry-After where so many are under way
INFLATED_AT_ONCE: Final = 64 * 1024  # bytes


class ClientLeft(ConnectionError):
    """The client has closed its connection. A class of its own: the database's connection may break off as well."""


class Uploads:
    """All files that are being received."""

    def __init__(self, front: Front, settings: Settings, stop: asyncio.Event) -> None:
        """`stop` is set once the process is to stop."""
        self._executor: Executor = front.executor
        self._limit = settings.api_upload_limit
        self._within = settings.api_body_timeout
        self._stop = stop
        self._of: Counter[UUID] = Counter()  # files under way, by tenant

    async def answer(
        self, request: web.BaseRequest, procedure: AnyProcedure, caller: Caller, given: Sequence[tuple[str, str]]
    ) -> Answer:
        """Run an upload with the body as its file; `given` is the query string. Raises a Problem."""
        began, outcome = perf_counter(), "ok"
        try:
            return await self._run(request, procedure, caller, given)
        except ClientLeft:
            outcome = "broken-off"
            raise
        except Exception as error:
            problem = self._executor.problem_of(error, procedure)
            outcome = problem.type.name
            raise problem from error
        finally:
            CALLS.labels(procedure.name, outcome).inc()
            SECONDS.labels(procedure.name).observe(perf_counter() - began)

    async def _run(
        self, request: web.BaseRequest, procedure: AnyProcedure, caller: Caller, given: Sequence[tuple[str, str]]
    ) -> Answer:
        accepted = await self._executor.open(caller, procedure, query_string.read(procedure.input, given))
        call = accepted.call
        call.idempotency_key = request.headers.get("Idempotency-Key")
        if call.idempotency_key is not None:
            idempotency.check_key(call.idempotency_key)
        content_type = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
        if content_type not in procedure.takes:
            raise Problem(UNSUPPORTED_MEDIA_TYPE, f"Send the file as one of: {', '.join(procedure.takes)}.")
        chunks = self._chunks(request)
        with self._place(call.tenant_id):
            async with aclosing(chunks):
                return answer_of(await procedure.receive(call, accepted.given, SentFile(content_type, chunks)))

    @contextmanager
    def _place(self, tenant_id: UUID) -> Iterator[None]:
        """Count a file against the bounds. Raises the problem of one too many."""
        if self._of[tenant_id] >= OF_A_TENANT or self._of.total() >= AT_ONCE:
            raise Problem(UNAVAILABLE, "Other files are being received. Send it again later.", retry_after=AGAIN)
        self._of[tenant_id] += 1
        try:
            yield
        finally:
            self._of[tenant_id] -= 1
            self._of += Counter()  # drops who has none

    async def _chunks(self, request: web.BaseRequest) -> AsyncGenerator[bytes]:
        """The file, inflated, as it comes. Raises a Problem."""
        if (request.content_length or 0) > self._limit:
            raise self._too_large()
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the file as it is, or with Content-Encoding: gzip.")
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":  # the client sends the body after this
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the 100 is no part of the answer
        size = 0
        received = self._received(request)
        async for chunk in inflated(received) if encoding == "gzip" else received:
            size += len(chunk)
            if size > self._limit:
                raise self._too_large()
            if self._stop.is_set():
                raise Problem(UNAVAILABLE, "This process stops. Send the file again: it goes on.", retry_after=AGAIN)
            yield chunk

    def _too_large(self) -> Problem:
        return Problem(TOO_LARGE, f"A file has at most {self._limit} bytes. Divide it.")

    async def _received(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        content = request.content
        ends = monotonic() + LONGEST
        try:
            while not content.at_eof():
                if monotonic() > ends:
                    raise Problem(TIMEOUT, "The file takes too long. Send it again: it goes on.")
                async with asyncio.timeout(self._within):
                    chunk = await content.readany()
                yield chunk
        except TimeoutError:
            raise Problem(TIMEOUT, f"Nothing of the file has arrived for {self._within:g} seconds.") from None
        except ConnectionError:
            raise ClientLeft from None
        except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError):
            raise Problem(PARSE_ERROR, "The file does not arrive as its headers announce it.") from None


async def inflated(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What gzip's bytes stand for, in pieces of a bounded size. Raises the problem of what is no gzip."""
    inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        async for chunk in chunks:
            waiting, piece = chunk, b""
            while waiting or len(piece) == INFLATED_AT_ONCE:
                if inflating.eof and waiting:  # a file may be several, one after the other
                    inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
                piece = inflating.decompress(waiting, INFLATED_AT_ONCE)
                waiting = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
                yield piece
    except zlib.error:
        raise Problem(PARSE_ERROR, "The body is no gzip, as its header Content-Encoding says.") from None
    if not inflating.eof:
        raise Problem(PARSE_ERROR, "The body ends before its gzip does.")
