"""Provider webhooks: known endpoint → plausible body → signature → durable → 2xx.

Checks come cheapest first. Every refusal is counted by its reason, logged without content, and answered with a
sentence that says what to change. Nothing here reaches the database: who owns an endpoint is looked up in memory.
"""

import asyncio
import logging
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Counter

from ingress.intakes import Intake, intake_at
from ingress.keep import NotKept
from ingress.room import Room
from ingress.unsubscribe import Unsubscribing
from shared.crypto import KeyRing
from shared.log import get_logger
from shared.messages import WebhookReceived
from shared.providers.base import RawWebhook

log = get_logger(__name__)

REFUSED = Counter("palomar_webhooks_refused", "Requests that were not answered 2xx", ["reason"])

RETRY_AFTER = "5"  # seconds; what a 503 says
# Webhooks are small; what is not, or does not say, takes turns, so that no crowd of megabytes fills the memory.
LARGE_BODY = 64 * 1024  # bytes
LARGE_AT_ONCE = 8
HUGE_BODY = 3 * 1024 * 1024  # bytes; of such there is one at a time
# Bytes of large bodies that are made durable at once: by then each is in memory some five times.
ROOM = 10 * 1024 * 1024
# What of a request's headers goes on: enough to read a body and to recognise a redelivery, never a credential.
KEPT_HEADERS = ("content-type", "user-agent", "i-twilio-idempotency-token")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook URL, as verifying needs it."""

    id: UUID
    tenant_id: UUID | None  # None: it serves several tenants
    provider: str
    tokens: tuple[str, ...]  # what may have signed; none where its secrets can't be opened
    verify_token: str = ""  # what Meta names when it verifies the URL
    url_secrets: tuple[str, ...] = ()  # what a URL may end with, where `tokens` are for signatures (Kommo has both)


class Endpoints(Protocol):
    """The directory of endpoints, in memory."""

    @property
    def trouble(self) -> str | None:
        """Why no endpoint is known at all; None when they are."""
        ...

    def find(self, name: str) -> Endpoint | None:
        """The endpoint of this id as it stands in the URL, if there is one."""
        ...


class Keeps(Protocol):
    async def keep(self, webhook: WebhookReceived) -> None:
        """Return once it is durable. Raises NotKept."""
        ...


class Refusal(NamedTuple):
    status: int
    text: str


REFUSALS: Mapping[str, Refusal] = {
    "unknown_path": Refusal(404, "Nothing is here. Webhook URLs are printed by `palomar channels list`."),
    "unknown_endpoint": Refusal(
        404, "No endpoint of this provider has this id. Compare the URL with `palomar channels list`."
    ),
    "method": Refusal(405, "Webhooks come by POST. Choose HTTP POST where this URL is entered at the provider."),
    "verify_token": Refusal(
        403, "This verifies no webhook URL. Enter the verify token that `palomar channels add` printed for this URL."
    ),
    "content_type": Refusal(415, "This provider's webhooks are {taken}."),
    "compressed": Refusal(415, "Webhooks come uncompressed. Send the body without Content-Encoding."),
    "too_large": Refusal(413, "The body is larger than {limit} bytes."),
    "stalled": Refusal(408, "The body did not arrive within {seconds:g} seconds."),
    "broken_body": Refusal(400, "The body does not arrive as its headers announce it."),
    "signature": Refusal(403, "The signature is not right: {signed}."),
    "secrets": Refusal(
        503, "The secrets of this endpoint can't be opened. Check PALOMAR_SECRET_KEYS, or enter them again."
    ),
    "no_directory": Refusal(503, "No endpoint can be looked up yet: the database does not answer."),
    "not_kept": Refusal(503, "Neither the broker nor the disk takes webhooks at the moment."),
    "error": Refusal(500, "Something went wrong here. The log says what."),
}


class _Refused(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Receiver:
    """Takes the webhooks of all providers."""

    def __init__(
        self,
        endpoints: Endpoints,
        keeper: Keeps,
        *,
        public_url: str,
        body_limit: int,
        body_timeout: float,
        keys: KeyRing,
    ) -> None:
        """`public_url` is what providers call and sign; `body_limit` is bytes, `body_timeout` seconds.

        The limit gives way where a provider documents larger bodies.
        `keys` seal what proves that a URL for unsubscribing is ours.
        """
        self._endpoints = endpoints
        self._keeper = keeper
        self._public_url = public_url.rstrip("/")
        self._body_limit = body_limit
        self._body_timeout = body_timeout
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._huge = asyncio.Semaphore(1)
        self._room = Room(ROOM)
        self._unsubscribing = Unsubscribing(endpoints, keeper, keys, self._public_url)
        logging.getLogger("aiohttp.server").addFilter(_without_content)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """What any request to this process gets."""
        target = origin_form(request.raw_path)
        path, _, query = target.partition("?")
        _, root, provider, name, *rest = path.split("/", 6) + [""] * (3 - path.count("/"))
        if root != "webhooks":
            return web.Response(status=404, text="Nothing is here.\n")  # not worth a line in the log: anybody may ask
        if self._unsubscribing.takes(provider, rest):
            return await self._unsubscribing.answer(request, name, rest)
        intake = intake_at(provider, rest)
        if intake is None:
            return self._refusal("unknown_path", request, name)
        if request.method == "POST":
            return await self._post(provider, name, intake, target, request)
        if request.method == "GET" and intake.challenge is not None:
            return self._verified(provider, name, intake, query, request)
        return self._refusal("method", request, name, intake)

    def _verified(
        self, provider: str, name: str, intake: Intake, query: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Answer a provider that asks, when a webhook URL is entered there, whether the URL is meant."""
        try:
            endpoint = self._endpoint(provider, name)
        except _Refused as refused:
            return self._refusal(refused.reason, request, name, intake)
        told = intake.challenge(query, endpoint.verify_token) if intake.challenge is not None else None
        if told is None:
            return self._refusal("verify_token", request, name, intake)
        return web.Response(text=told)

    async def _post(
        self, provider: str, name: str, intake: Intake, target: str, request: web.BaseRequest
    ) -> web.StreamResponse:
        try:
            endpoint = self._endpoint(provider, name)
            if intake.secret_path:  # before a place or a body is taken by somebody who does not know it
                self._check(intake, endpoint, target, request, b"")
            size = request.content_length
            if size is None or size > LARGE_BODY:
                huge = intake.largest > HUGE_BODY and (size is None or size > HUGE_BODY)
                # In this order: one that waits for another huge one keeps none of the places of the large.
                async with self._huge if huge else nullcontext(), self._large:
                    await self._take(endpoint, intake, target, size, request)
            else:
                await self._take(endpoint, intake, target, size, request)
        except _Refused as refused:
            return self._refusal(refused.reason, request, name, intake)
        except NotKept as error:
            log.error("webhook not kept", why=str(error))
            return self._refusal("not_kept", request, name, intake)
        except Exception as error:
            # Only where and what kind: the text of an error may quote the body.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("receiving failed", error=type(error).__name__, at=f"{place.filename}:{place.lineno}")
            return self._refusal("error", request, name, intake)
        return web.Response(body=intake.answer, content_type=intake.answer_type)

    async def _take(
        self, endpoint: Endpoint, intake: Intake, target: str, size: int | None, request: web.BaseRequest
    ) -> None:
        """Check a request and make it durable. Raises _Refused or NotKept."""
        headers = request.headers
        content_type = headers.get("Content-Type", "")
        if not intake.takes(content_type.partition(";")[0].strip().lower(), target.partition("?")[2]):
            raise _Refused("content_type")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Refused("compressed")
        body = await self._body(request, size, intake)
        if not intake.secret_path:
            self._check(intake, endpoint, target, request, body)
        else:  # what is kept holds no secret
            target = target.partition("?")[0].rpartition("/")[0]
        received_at = datetime.now(UTC)
        async with self._room.held(len(body)) if len(body) > LARGE_BODY else nullcontext():
            webhook = WebhookReceived.of(
                endpoint.id,
                body,
                tenant_id=endpoint.tenant_id,
                provider=endpoint.provider,
                receipts=intake.only_receipts(body),
                received_at=received_at,
                method=request.method,
                url=printable(self._public_url + target),
                content_type=printable(content_type),
                headers={name: printable(headers[name]) for name in KEPT_HEADERS if name in headers},
            )
            del body  # the webhook holds it
            await self._keeper.keep(webhook)

    def _endpoint(self, provider: str, name: str) -> Endpoint:
        if self._endpoints.trouble is not None:
            raise _Refused("no_directory")
        endpoint = self._endpoints.find(name)
        if endpoint is None or endpoint.provider != provider:
            raise _Refused("unknown_endpoint")
        if not endpoint.tokens:
            raise _Refused("secrets")
        return endpoint

    def _check(self, intake: Intake, endpoint: Endpoint, target: str, request: web.BaseRequest, body: bytes) -> None:
        """Raises _Refused where it is not the provider who calls."""
        headers = request.headers
        raw = RawWebhook(request.method, self._public_url + target, headers.get("Content-Type", ""), headers, body)
        secrets = endpoint.url_secrets or endpoint.tokens if intake.secret_path else endpoint.tokens
        if not intake.verify(raw, secrets):
            raise _Refused("signature")

    async def _body(self, request: web.BaseRequest, size: int | None, intake: Intake) -> bytes:
        limit = max(self._body_limit, intake.largest)
        if size is not None and size > limit:
            raise _Refused("too_large")
        try:
            # Not request.read(): that keeps the body for as long as the request lives, cycles and all.
            if request.content.is_eof():  # all of it came with its headers, as nearly always: nothing to wait for
                body = request.content.read_nowait()
            else:
                body = await self._slow_body(request, limit, self._body_timeout * intake.patience)
        except TimeoutError:
            raise _Refused("stalled") from None
        except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError, OSError):
            raise _Refused("broken_body") from None
        if len(body) > limit:  # grew over it without having said so
            raise _Refused("too_large")
        return body

    async def _slow_body(self, request: web.BaseRequest, limit: int, within: float) -> bytes:
        """A body as it arrives, until it is whole or over the limit. Raises TimeoutError."""
        content = request.content
        async with asyncio.timeout(within):
            if request.headers.get("Expect", "").lower() == "100-continue":  # it comes once it is asked for
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0  # that was no part of the answer
            body = bytearray(await content.readany())
            while not content.at_eof() and len(body) <= limit:
                body += await content.readany()
        return bytes(body)

    def _refusal(
        self, reason: str, request: web.BaseRequest, name: str, intake: Intake | None = None
    ) -> web.StreamResponse:
        """The answer to whoever is refused; `name` is the endpoint's as it stands in the URL."""
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
            taken=intake.taken if intake else "",
            signed=intake.signed.format(public_url=self._public_url) if intake else "",
            limit=max(self._body_limit, intake.largest) if intake else self._body_limit,
            seconds=self._body_timeout * (intake.patience if intake else 1),
        )
        response = web.Response(status=refusal.status, text=text + "\n")
        if refusal.status == 503:
            response.headers["Retry-After"] = RETRY_AFTER
        if reason == "method":
            response.headers["Allow"] = "GET, POST" if intake and intake.challenge else "POST"
        if reason in ("stalled", "broken_body"):  # the rest of the body would be read as the next request
            response.force_close()
        return response


def _without_content(record: logging.LogRecord) -> bool:
    """Tell a request that is no HTTP as a refusal: aiohttp's own line would quote it, credentials and all."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    REFUSED.labels("malformed").inc()
    log.warning("webhook refused", reason="malformed", status=error.code, error=type(error).__name__)
    return False


def origin_form(target: str) -> str:
    """Path and query as they were sent; a request line may also hold a whole URL, whose host says nothing to us."""
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def printable(text: str) -> str:
    """Header values and paths may hold bytes that are no UTF-8 and came to us as surrogates: these become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
