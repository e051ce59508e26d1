"""Receives clicks on the unsubscribe link of bulk messages, and makes them durable as it does webhooks.

RFC 8058: mailbox providers POST to the URL in the mail. A GET shows a button and changes nothing, because scanners
follow every link. The last segment of the URL proves that it is ours: it is sealed for this mail alone.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiohttp import web
from prometheus_client import Counter

from ingress.receive.durability import NotDurable
from ingress.receive.endpoint import Endpoint, Endpoints, WebhookQueue
from ingress.receive.routing import UNSUBSCRIBING
from shared.crypto import CryptoError, KeyRing
from shared.domain.unsubscribe_links import PATH, owner
from shared.process.log import get_logger
from shared.queue.jobs import WebhookReceived

log = get_logger(__name__)

CLICKS: Final = Counter("palomar_unsubscribe_clicks", "Clicks on the unsubscribe button of mails", ["outcome"])

_PAGE: Final = (
    '<!doctype html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta name="robots" content="noindex"><title>{title}</title></head><body>{body}</body></html>'
)
_ASK: Final = _PAGE.format(
    title="Unsubscribe",
    body="<p>No more of these mails? · ¿No recibir más estos correos? · Não receber mais estes e-mails?</p>"
    '<form method="post"><button>Unsubscribe · Darse de baja · Descadastrar</button></form>',
)
_DONE: Final = _PAGE.format(
    title="Unsubscribed", body="<p>You are unsubscribed. · Te has dado de baja. · Você foi descadastrado.</p>"
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Unsubscribing:
    """Answers requests to the URL in a message."""

    def __init__(self, endpoints: Endpoints, queue: WebhookQueue, keys: KeyRing, public_url: str) -> None:
        self._endpoints = endpoints
        self._queue = queue
        self._keys = keys
        self._public_url = public_url

    def handles(self, provider: str, rest: Sequence[str]) -> bool:
        """Whether /webhooks/PROVIDER/ENDPOINT/REST is such a URL."""
        return provider in UNSUBSCRIBING and len(rest) == 3 and rest[0] == PATH

    async def answer(
        self, request: web.BaseRequest, provider: str, name: str, rest: Sequence[str]
    ) -> web.StreamResponse:
        """The answer to a request. `provider` and `name`, the endpoint's, are those of the URL."""
        if self._endpoints.unready_reason is not None:
            return _later()
        _, message, proof = rest
        target = self._target(provider, name, message, proof)
        if request.method not in ("GET", "HEAD", "POST"):
            return web.Response(
                status=405, text="Open this link, or POST to it.\n", headers={"Allow": "GET, HEAD, POST"}
            )
        if target is None:
            CLICKS.labels("refused").inc()
            log.warning("unsubscribe refused", endpoint=_id(name))
            return _refused()
        return await self._click(*target) if request.method == "POST" else _page(_ASK)

    async def _click(self, endpoint: Endpoint, message_id: UUID) -> web.Response:
        """Store the click. Its body is not read: the URL says it all."""
        now = datetime.now(UTC)
        try:
            await self._queue.put(
                WebhookReceived.of(
                    endpoint.id,
                    f"{message_id} {now:%Y-%m-%dT%H:%MZ}".encode(),  # clicks of two minutes are two webhooks
                    tenant_id=endpoint.tenant_id,
                    provider=endpoint.provider,
                    receipts=True,
                    received_at=now,
                    url=f"{self._public_url}/webhooks/{endpoint.provider}/{endpoint.id}/{PATH}/{message_id}",
                    content_type="application/x-www-form-urlencoded",
                )
            )
        except NotDurable as error:
            CLICKS.labels("not_kept").inc()
            log.error("unsubscribe not stored", why=str(error))
            return _later()
        CLICKS.labels("kept").inc()
        return _page(_DONE)

    def _target(self, provider: str, name: str, message: str, proof: str) -> tuple[Endpoint, UUID] | None:
        """The endpoint and the message's id; None where the URL is not ours."""
        endpoint = self._endpoints.find(name)
        message_id = _id(message)
        if endpoint is None or endpoint.provider != provider or message_id is None:
            return None
        try:
            self._keys.open(proof, tenant_id=endpoint.tenant_id, owner=owner(message_id))
        except CryptoError:
            return None
        return endpoint, message_id


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _page(page: str) -> web.Response:
    return web.Response(text=page, content_type="text/html", headers=_HEADERS)


def _later() -> web.Response:
    return web.Response(status=503, text="Try again in a minute.\n", headers={**_HEADERS, "Retry-After": "5"})


def _refused() -> web.Response:
    text = "This link is no longer good. Answer the mail with the one word STOP instead.\n"
    return web.Response(status=404, text=text, headers=_HEADERS)
