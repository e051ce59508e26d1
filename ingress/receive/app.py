"""Receives the providers' webhooks: known endpoint → accepted body → signature → durable → 2xx.

The cheapest checks come first. Each refusal is counted by its reason, logged without content, and answered with a
sentence that says what to change. Nothing here reaches the database: endpoints are looked up in memory.
"""

import asyncio
import logging
import traceback
from contextlib import nullcontext
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Counter

from ingress.receive.durability import NotDurable
from ingress.receive.endpoint import Endpoint, Endpoints, WebhookQueue
from ingress.receive.memory_budget import MemoryBudget
from ingress.receive.refusals import REFUSALS, RETRY_AFTER
from ingress.receive.routing import WEBHOOKS, spec_at
from ingress.receive.unsubscribe import Unsubscribing
from shared.crypto import KeyRing
from shared.http.bodies import Bodies, Refused, hang_up
from shared.http.bounds import Bounds, Limits
from shared.http.sources import Sources
from shared.process.log import get_logger
from shared.providers.base import RawWebhook
from shared.providers.webhook_spec import EndpointSecrets, WebhookSpec
from shared.queue.jobs import WebhookReceived

log = get_logger(__name__)

REFUSED = Counter("palomar_webhooks_refused", "Requests that were not answered 2xx", ["reason"])

SMALL_BODY = 16 * 1024  # bytes; a larger body reserves its size of the memory budget
# Bytes of large bodies that are made durable at once: each is in memory some five times by then.
MEMORY_BUDGET = 10 * 1024 * 1024
LONG_TO_CHECK = 256 * 1024  # bytes; the signature of a larger body is checked in a thread
# Headers that are stored, beside the provider's own: enough to parse a body and recognise a redelivery; no credential.
STORED_HEADERS = ("content-type", "user-agent")


class Receiver:
    """Receives the webhooks of all providers."""

    def __init__(
        self,
        endpoints: Endpoints,
        queue: WebhookQueue,
        *,
        public_url: str,
        body_limit: int,
        body_timeout: float,
        bytes_in_hand: int,
        sources: Sources,
        keys: KeyRing,
    ) -> None:
        """`public_url` is the address that providers call and sign; `body_limit` is bytes, `body_timeout` seconds.

        A provider that documents larger bodies has its own limit. `bytes_in_hand` bounds all bodies together. `keys`
        open the proof that a URL for unsubscribing is ours.
        """
        self._endpoints = endpoints
        self._queue = queue
        self._public_url = public_url.rstrip("/")
        self._body_limit = body_limit
        self._body_timeout = body_timeout
        largest = max(body_limit, *(spec.body_limit for spec in WEBHOOKS.values()))
        self._bodies = Bodies(Bounds(Limits.of(bytes_in_hand, largest)), sources)
        self._memory = MemoryBudget(MEMORY_BUDGET)
        self._unsubscribing = Unsubscribing(endpoints, queue, keys, self._public_url)
        logging.getLogger("aiohttp.server").addFilter(_without_content)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request to the public port."""
        response = await self._answer(request)
        if not request.content.is_eof():
            hang_up(request, response)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        target = origin_form(request.raw_path)
        path, _, query = target.partition("?")
        _, root, provider, name, *rest = path.split("/", 6) + [""] * (3 - path.count("/"))
        if root != "webhooks":
            return web.Response(status=404, text="Nothing is here.\n")  # not logged: anyone can ask
        if self._unsubscribing.handles(provider, rest):
            return await self._unsubscribing.answer(request, provider, name, rest)
        spec = spec_at(provider, rest)
        if spec is None:
            return self._refusal("unknown_path", request, name)
        if request.method == "POST":
            return await self._post(provider, name, spec, target, request)
        if request.method == "GET" and spec.challenge is not None:
            return self._answer_challenge(provider, name, spec, query, request)
        return self._refusal("method", request, name, spec)

    def _answer_challenge(
        self, provider: str, name: str, spec: WebhookSpec, query: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Answer the GET by which a provider verifies a webhook URL when it is entered there."""
        try:
            _, secrets = self._endpoint(provider, name)
        except Refused as refused:
            return self._refusal(refused.reason, request, name, spec)
        answer = spec.challenge(query, secrets.verify_token) if spec.challenge is not None else None
        if answer is None:
            return self._refusal("verify_token", request, name, spec)
        return web.Response(text=answer)

    async def _post(
        self, provider: str, name: str, spec: WebhookSpec, target: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        try:
            endpoint, secrets = self._endpoint(provider, name)
            if spec.secret_in_url:  # before a stranger's body takes a place
                self._check(spec, secrets, target, request, b"")
            await self._accept(endpoint, secrets, spec, target, request)
        except Refused as refused:
            return self._refusal(refused.reason, request, name, spec)
        except NotDurable as error:
            log.error("webhook not stored", why=str(error))
            return self._refusal("not_kept", request, name, spec)
        except Exception as error:
            # Only the place and the class: the text of an error may quote the body.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("receiving failed", error=type(error).__name__, at=f"{place.filename}:{place.lineno}")
            return self._refusal("error", request, name, spec)
        return web.Response(body=spec.answer, content_type=spec.answer_type)

    async def _accept(
        self, endpoint: Endpoint, secrets: EndpointSecrets, spec: WebhookSpec, target: str, request: web.BaseRequest
    ) -> None:
        """Check a request and make it durable. Raises Refused or NotDurable."""
        headers = request.headers
        content_type = headers.get("Content-Type", "")
        if not spec.accepts(content_type.partition(";")[0].strip().lower(), target.partition("?")[2]):
            raise Refused("content_type")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused("compressed")
        limit, within = max(self._body_limit, spec.body_limit), self._body_timeout * spec.body_timeout_factor
        body, place = await self._bodies.read(request, endpoint.owner.int, limit, within)
        try:
            if not spec.secret_in_url:
                if len(body) > LONG_TO_CHECK:  # hashing releases the GIL, so other webhooks go on
                    await asyncio.to_thread(self._check, spec, secrets, target, request, body)
                else:
                    self._check(spec, secrets, target, request, body)
            else:  # no secret is stored
                target = target.partition("?")[0].rpartition("/")[0]
            received_at = datetime.now(UTC)
            async with self._memory.reserve(len(body)) if len(body) > SMALL_BODY else nullcontext():
                webhook = WebhookReceived.of(
                    endpoint.id,
                    body,
                    tenant_id=endpoint.tenant_id,
                    provider=endpoint.provider,
                    receipts=spec.only_receipts(body),
                    received_at=received_at,
                    method=request.method,
                    url=printable(self._public_url + target),
                    content_type=printable(content_type),
                    headers={
                        name: printable(headers[name])
                        for name in (*STORED_HEADERS, *spec.stored_headers)
                        if name in headers
                    },
                )
                del body  # the webhook holds it
                await self._queue.put(webhook)
        finally:
            self._bodies.leave(place)

    def _endpoint(self, provider: str, name: str) -> tuple[Endpoint, EndpointSecrets]:
        if self._endpoints.unready_reason is not None:
            raise Refused("no_directory")
        endpoint = self._endpoints.find(name)
        if endpoint is None or endpoint.provider != provider:
            raise Refused("unknown_endpoint")
        if endpoint.secrets is None:
            raise Refused("secrets")
        return endpoint, endpoint.secrets

    def _check(
        self, spec: WebhookSpec, secrets: EndpointSecrets, target: str, request: web.BaseRequest, body: bytes
    ) -> None:
        """Raises Refused where the request is not from the provider."""
        headers = request.headers
        raw = RawWebhook(request.method, self._public_url + target, headers.get("Content-Type", ""), headers, body)
        if not spec.verify(raw, secrets.url_secrets if spec.secret_in_url else secrets.signing_secrets):
            raise Refused("signature")

    def _refusal(
        self, reason: str, request: web.BaseRequest, name: str, spec: WebhookSpec | None = None
    ) -> web.StreamResponse:
        """Count and log a refusal, and return its answer. `name` is the endpoint's, as written in the URL."""
        REFUSED.labels(reason).inc()
        refusal = REFUSALS[reason]
        log.warning(
            "webhook refused",
            reason=reason,
            status=refusal.status,
            endpoint=str(endpoint.id) if (endpoint := self._endpoints.find(name)) else None,
            size=request.content_length,
        )
        text = refusal.text.format(
            accepted_types=spec.accepted_types if spec else "",
            signature_hint=spec.signature_hint.format(public_url=self._public_url) if spec else "",
            limit=max(self._body_limit, spec.body_limit) if spec else self._body_limit,
            seconds=self._body_timeout * (spec.body_timeout_factor if spec else 1),
        )
        response = web.Response(status=refusal.status, text=text + "\n")
        if refusal.status == 503:
            response.headers["Retry-After"] = RETRY_AFTER
        if reason == "method":
            response.headers["Allow"] = "GET, POST" if spec and spec.challenge else "POST"
        if reason == "broken_body":  # the rest of the body would be read as the next request
            response.force_close()
        return response


def _without_content(record: logging.LogRecord) -> bool:
    """Log a request that is no HTTP as a refusal: aiohttp's own line would quote it, with its credentials."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    REFUSED.labels("malformed").inc()
    log.warning("webhook refused", reason="malformed", status=error.code, error=type(error).__name__)
    return False


def origin_form(target: str) -> str:
    """Path and query as they were sent. A request line may hold a whole URL, whose host is ignored."""
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def printable(text: str) -> str:
    """The text with `?` for each byte that was not UTF-8, and which aiohttp decoded to a surrogate."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
