"""Serves /openapi.json and /docs to anyone: both are made once, and hold nothing of any tenant's."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import hdrs, web

from ingress.api.declaration import registry
from ingress.api.problems import METHOD_NOT_ALLOWED, UNKNOWN_PATH, Problem
from ingress.api.reference.openapi import document
from ingress.api.reference.page import page
from ingress.api.rest import as_response

PATHS: Final = ("docs", "openapi.json")
_COMPRESSED: Final[Mapping[str, str]] = {hdrs.CONTENT_ENCODING: "gzip", hdrs.VARY: hdrs.ACCEPT_ENCODING}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    compressed: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, body: bytes, content_type: str, policy: str) -> "_File":
        headers = {
            hdrs.CONTENT_TYPE: content_type,
            hdrs.ETAG: f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            hdrs.CACHE_CONTROL: "no-cache",  # ask each time; the answer is mostly 304
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        return cls(body, gzip.compress(body), headers)


class Reference:
    """The transport of both files."""

    def __init__(self) -> None:
        procedures = registry().values()
        shown = page(procedures)
        self._files: Mapping[str, _File] = {
            "/docs": _File.of(shown.text.encode(), "text/html; charset=utf-8", shown.policy),
            "/openapi.json": _File.of(
                orjson.dumps(document(procedures)), "application/json", "default-src 'none'; frame-ancestors 'none'"
            ),
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The file. Raises a Problem."""
        file = self._files.get(request.path)
        if file is None:
            raise Problem(UNKNOWN_PATH, "Nothing is here. The reference is at /docs.")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            raise Problem(METHOD_NOT_ALLOWED, "Here is only: GET.", headers={hdrs.ALLOW: "GET"})
        if file.headers[hdrs.ETAG] in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=file.headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
            return web.Response(body=file.compressed, headers={**file.headers, **_COMPRESSED})
        return web.Response(body=file.body, headers=file.headers)

    def refuse(self, problem: Problem) -> web.Response:
        return as_response(problem)
