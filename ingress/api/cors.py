"""Which web pages may call the API from a browser (CORS): those whose origin the setting names, by default none."""

from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web

ANY: Final = "*"
_METHODS: Final = "GET, POST, PATCH, DELETE"
_ALLOWED: Final = (
    "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, trpc-accept, trpc-batch-mode"
)
_EXPOSED: Final = "RateLimit, RateLimit-Policy, Retry-After, Idempotent-Replayed, ETag"
_AGE: Final = "7200"  # seconds that a browser remembers a preflight's answer


class Cors:
    """The origins that are allowed. No cookie is ever read here, so credentials are never allowed."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Each as a browser writes it, `https://console.example.com`; `*` allows all."""
        self._origins = frozenset(origins)

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a browser's preflight; None where the request is none."""
        if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
            return None
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _ALLOWED,
            hdrs.ACCESS_CONTROL_MAX_AGE: _AGE,
        }
        return web.Response(status=204, headers=headers if self._allowed(request) else {})

    def allow(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let the page that sent the request read the answer, where its origin is allowed."""
        if not self._origins or response.prepared:
            return
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if origin := self._allowed(request):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    def _allowed(self, request: web.BaseRequest) -> str | None:
        origin = request.headers.get(hdrs.ORIGIN)
        return origin if origin is not None and self._origins & {origin, ANY} else None
