"""Streams customers' files from the blob store to whoever has a signed link. Nothing in a file is run by a browser.

A file came from a stranger: its type is sent only where no browser executes it, else it is to be saved.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote
from uuid import UUID

from aiohttp import web

from ingress.api import file_links
from ingress.api.begin import begin
from ingress.api.downloads import Downloads
from ingress.api.execute import Executor
from ingress.api.problems import FORBIDDEN, METHOD_NOT_ALLOWED, NOT_FOUND, UNAVAILABLE, Problem
from ingress.api.rest import as_response
from shared.domain.media import name_of, plain_type
from shared.media.blob_store import Blobs, StoreError
from shared.process.log import get_logger
from shared.store import media_records
from shared.store.media_records import MediaRecord

log = get_logger(__name__)

AT_ONCE: Final = 32  # downloads of a process
OF_A_TENANT: Final = 8
LONGEST: Final = 600.0  # seconds of one
AGAIN: Final = 2.0  # seconds; Retry-After where the store fails
_SHOWN: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")  # by a browser, in the page; others are saved
_SENT: Final = ("audio/", "video/", "image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf")
_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


class Files:
    """The transport of everything below /files."""

    def __init__(self, executor: Executor, blobs: Blobs) -> None:
        self._executor = executor
        self._blobs = blobs
        self._downloads = Downloads("downloads of files", at_once=AT_ONCE, of_a_tenant=OF_A_TENANT, longest=LONGEST)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The file of a link. Raises a Problem."""
        if request.method not in ("GET", "HEAD"):
            raise Problem(METHOD_NOT_ALLOWED, "Here is only: GET.", headers={"Allow": "GET, HEAD"})
        tenant_id, media_id = self._checked(request)
        try:
            async with self._executor.transaction(tenant_id) as connection:
                found = await media_records.get(connection, tenant_id, media_id)
        except Exception as error:
            raise self._executor.problem_of(error) from error
        if found is None or found.key is None:
            raise Problem(NOT_FOUND, "The file of this link is not there any more.")
        async with self._downloads.one(tenant_id):
            return await self._stream(request, found, found.key)

    def _checked(self, request: web.BaseRequest) -> tuple[UUID, UUID]:
        """The tenant and the file that a link names. Raises a Problem for one that we did not make, or that expired."""
        try:
            _, _, tenant, media = request.path.split("/")
            tenant_id, media_id = UUID(tenant), UUID(media)
            expires = int(request.query.get("expires", "")[:20])
        except ValueError:
            raise Problem(FORBIDDEN, "This is no link of media.link.") from None
        signature = request.query.get("signature", "")
        if not file_links.is_valid(self._executor.keys, tenant_id, media_id, expires, signature, datetime.now(UTC)):
            raise Problem(FORBIDDEN, "This link has expired, or is not whole. Get another one: media.link.")
        return tenant_id, media_id

    async def _stream(self, request: web.BaseRequest, file: MediaRecord, key: str) -> web.StreamResponse:
        response = web.StreamResponse(headers=_headers(file))
        response.content_length = file.size
        chunks = self._blobs.read(key)
        try:
            first = await anext(chunks, b"") if file.size and request.method == "GET" else b""
        except FileNotFoundError:
            raise Problem(NOT_FOUND, "The file of this link is not there any more.") from None
        except StoreError as error:
            log.warning("file not readable", error=type(error).__name__)
            raise Problem(UNAVAILABLE, "The store of files does not answer.", retry_after=AGAIN) from None
        await begin(request, response)
        if request.method == "GET":
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
        return response

    def refuse(self, problem: Problem) -> web.Response:
        """A problem, as REST writes it."""
        return as_response(problem)


def _headers(file: MediaRecord) -> dict[str, str]:
    kind = plain_type(file.mime_type)
    sent = kind if kind.startswith(_SENT) and kind.isascii() and kind.isprintable() else "application/octet-stream"
    how = "inline" if kind in _SHOWN else "attachment"
    name = file.filename or name_of(None, file.mime_type)
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._- ") else "_" for char in name)[:100]
    disposition = f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name[:200], safe='')}"
    return {"Content-Type": sent, "Content-Disposition": disposition, **_HEADERS}
