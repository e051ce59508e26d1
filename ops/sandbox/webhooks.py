"""Plays a tenant's own system: takes deliveries of webhooks, verifies what signs them, and shows them on a page.

A webhook's URL is /webhooks/NAME here, or /webhooks/NAME?status=503 for one that answers so. The page is at /.
`POST /sandbox/webhooks/keys` tells which keys sign for a URL, as `palomar webhooks add` does.
"""

import hmac
import time
from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Annotated, Final

import orjson
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from yarl import URL

from ops.sandbox.bodies import json_answer, number, read_json

KEPT: Final = 200  # requests; the oldest are forgotten
MOST_KEYS: Final = 1000  # URLs
TOLERANCE: Final = 300  # seconds that a timestamp may be off, as the libraries of Standard Webhooks have it
_REFRESH: Final = 3  # seconds until a browser asks for the page again
_HEADINGS: Final = ("received", "URL", "webhook-id", "event", "signature", "answer", "body")


class Keys(BaseModel):
    """What signs for a URL: `whsec_…` and `whpk_…`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    keys: Annotated[tuple[str, ...], Field(max_length=10)]


_KEYS = TypeAdapter(Keys)


@dataclass(frozen=True, slots=True)
class Received:
    """A request, and what it was answered."""

    at: str
    path: str
    id: str
    event: str
    signature: str  # such as "verified: v1, v1a", else what is wrong
    status: int
    body: str


class WebhookSandbox:
    """The newest requests of all webhooks."""

    def __init__(self) -> None:
        self._received: deque[Received] = deque(maxlen=KEPT)
        self._keys: dict[str, tuple[str, ...]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/webhooks/{name:.*}", self._receive),
            web.get("/", self._page),
            web.get("/sandbox/webhooks", self._list),
            web.post("/sandbox/webhooks/keys", self._know),
        ]

    def clear(self) -> None:
        """Forget the requests, not the keys."""
        self._received.clear()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        status = int(number(request, "status", 200, 599))
        status = status if status >= 200 else 200
        signature = verified(request.headers, body, self._keys.get(request.path, ()), time.time())
        webhook_id = request.headers.get("webhook-id", "")
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = body.decode(errors="replace")
        self._received.append(Received(at, request.path_qs, webhook_id, _event(body), signature, status, text))
        return web.Response(status=status)

    async def _know(self, request: web.Request) -> web.Response:
        given = await read_json(request, _KEYS)
        if len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[URL(given.url).path] = given.keys
        return web.Response(status=204)

    async def _list(self, _: web.Request) -> web.Response:
        return json_answer(list(reversed(self._received)))

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=page(reversed(self._received)), content_type="text/html", charset="utf-8")


def verified(headers: Mapping[str, str], body: bytes, keys: Iterable[str], now: float) -> str:
    """What a receiver that knows these keys finds out: `verified` and the schemes, or what is wrong."""
    given = headers.get("webhook-signature", "")
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not given:
        return "not signed"
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE:
        return "wrong: the timestamp is too old, or none"
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    pairs = [one.partition(",")[::2] for one in given.split(" ")]
    known = list(keys)
    found = sorted({version for key in known for version, text in pairs if _is_by(key, version, text, signed)})
    if found:
        return f"verified: {', '.join(found)}"
    return "wrong" if known else "not verified: no key is known here"


def _is_by(key: str, version: str, signature: str, signed: bytes) -> bool:
    try:
        if version == "v1" and key.startswith("whsec_"):
            mac = hmac.digest(b64decode(key.removeprefix("whsec_")), signed, "sha256")
            return hmac.compare_digest(mac, b64decode(signature))
        if version == "v1a" and key.startswith("whpk_"):
            public = Ed25519PublicKey.from_public_bytes(b64decode(key.removeprefix("whpk_")))
            public.verify(b64decode(signature), signed)
            return True
    except (ValueError, InvalidSignature):
        pass
    return False


def page(received: Iterable[Received]) -> str:
    """The requests as a page that a browser asks for again and again."""
    head = "".join(f"<th>{heading}" for heading in _HEADINGS)
    rows = "".join(_row(one) for one in received)
    empty = "" if rows else "<p>None yet. palomar webhooks add http://127.0.0.1:4010/webhooks/shop --event '*'"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content={_REFRESH}>"
        "<title>Webhooks of the sandbox</title><style>body{font:14px sans-serif}td,th{text-align:left;"
        "vertical-align:top;padding:2px 12px 2px 0}pre{max-width:60em;white-space:pre-wrap}</style>"
        f"<h1>Received webhooks</h1>{empty}<table><tr>{head}{rows}</table></html>"
    )


def _row(one: Received) -> str:
    cells = (one.at, one.path, one.id, one.event, one.signature, str(one.status))
    body = f"<td><details><summary>{len(one.body)} characters</summary><pre>{escape(one.body)}</pre></details>"
    return "<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells) + body


def _event(body: bytes) -> str:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(found.get("type", "")) if isinstance(found, dict) else ""
