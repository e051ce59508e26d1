"""Provider webhooks: known endpoint → plausible body → signature → durable → 2xx.

Checks come cheapest first. Every refusal is counted by its reason, logged without content, and answered with a
sentence that says what to change. Nothing here reaches the database: who owns an endpoint is looked up in memory.
"""

import asyncio
import logging
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from aiohttp import ClientPayloadError, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Counter

from ingress.keep import NotKept
from ingress.room import Room
from ingress.unsubscribe import Unsubscribing
from shared.crypto import KeyRing
from shared.log import get_logger
from shared.messages import WebhookReceived
from shared.providers import email, kommo, meta, twilio
from shared.providers.base import RawWebhook

log = get_logger(__name__)

REFUSED = Counter("palomar_webhooks_refused", "Requests that were not answered 2xx", ["reason"])

RETRY_AFTER = "5"  # seconds; what a 503 says
# Webhooks are small; what is not, or does not say, takes turns, so that no crowd of megabytes fills the memory.
LARGE_BODY = 64 * 1024  # bytes
LARGE_AT_ONCE = 8
HUGE_BODY = 3 * 1024 * 1024  # bytes; of such there is one at a time
ROOM = (
    10 * 1024 * 1024
)  # bytes of large bodies that are made durable at once: each is in memory some five times by then
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


class Intake(NamedTuple):
    """What differs from provider to provider. A new one is one line in INTAKES."""

    verify: Callable[[RawWebhook, Sequence[str]], bool]
    signed: str  # said to whoever signs otherwise
    takes: Callable[[str, str], bool]  # (media type, query) → may this be its webhook?
    taken: str  # said to whoever sends something else
    answer: bytes
    answer_type: str
    status_path: bool = False  # whether receipts come to a path of their own
    only_receipts: Callable[[bytes], bool] = lambda _: False  # where they do not: does this body hold nothing else?
    challenge: Callable[[str, str], str | None] | None = None  # (query, verify token) → the answer to a verifying GET
    largest: int = 0  # bytes that it may send, as documented: taken whatever our own limit is
    beside: Mapping[str, "Intake"] = {}  # other webhooks of the same endpoint, by the path that follows it
    secret_path: bool = False  # whether the URL ends with a secret instead of a signature's being there
    patience: float = 1.0  # how many times the usual wait its bodies may take


def _twilio_takes(media_type: str, query: str) -> bool:
    # A JSON body is signed by its hash in the query; without it nothing ties the body to the signature.
    return media_type == "application/x-www-form-urlencoded" or (
        (media_type == "application/json" or media_type.endswith("+json")) and "bodySHA256=" in query
    )


def _email_takes(media_type: str, _: str) -> bool:
    return media_type == email.FORM


def _meta_takes(media_type: str, _: str) -> bool:
    return media_type == "application/json"


# A quote within a text is escaped, so a customer can't write either of them.
_MESSAGES_KEY = re.compile(rb'"messages"\s*:')


def _only_statuses(body: bytes) -> bool:
    return b'"statuses"' in body and _MESSAGES_KEY.search(body) is None


def _kommo_takes(media_type: str, _: str) -> bool:
    return media_type in ("application/x-www-form-urlencoded", "application/json")


def _says_no_message(body: bytes) -> bool:
    return b"message" not in body


_KOMMO_CHATS = Intake(
    verify=kommo.verify,
    signed="X-Signature must be made with the channel secret of the endpoint's channel, over the body as it is",
    takes=_meta_takes,
    taken="application/json",
    answer=b"",
    answer_type="text/plain",
    only_receipts=_says_no_message,
)


INTAKES: Mapping[str, Intake] = {
    "twilio": Intake(
        verify=twilio.verify,
        signed="it must be made with the endpoint's auth token over the public URL {public_url} (PALOMAR_PUBLIC_URL) "
        "with this path and query",
        takes=_twilio_takes,
        taken="application/x-www-form-urlencoded, or JSON with bodySHA256 in the query",
        answer=b'<?xml version="1.0" encoding="UTF-8"?><Response/>',
        answer_type="text/xml",
        status_path=True,
    ),
    "meta": Intake(
        verify=meta.verify,
        signed="X-Hub-Signature-256 must be made with the app secret of the endpoint's app, over the body as it is",
        takes=_meta_takes,
        taken="application/json",
        answer=b"",
        answer_type="text/plain",
        only_receipts=_only_statuses,
        challenge=meta.challenge,
        largest=3 * 1024 * 1024,
    ),
    "kommo": Intake(
        verify=kommo.holds_secret,
        signed="the URL must end with the secret that `palomar channels list` shows",
        takes=_kommo_takes,
        taken="application/x-www-form-urlencoded, or JSON",
        answer=b"",
        answer_type="text/plain",
        only_receipts=_says_no_message,
        beside={f"/{kommo.CHATS}": _KOMMO_CHATS, f"/{kommo.CHATS}/{{scope}}": _KOMMO_CHATS},
        secret_path=True,
    ),
    "email": Intake(
        verify=email.verify,
        signed="the URL must end with the secret that `palomar channels add` printed for this endpoint",
        takes=_email_takes,
        taken="multipart/form-data, as an inbound-parse webhook posts a mail",
        answer=b"",
        answer_type="text/plain",
        largest=10 * 1024 * 1024,
        secret_path=True,
        patience=3.0,
    ),
}


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
        keys: KeyRing | None = None,
    ) -> None:
        """`public_url` is what providers call and sign; `body_limit` is bytes, `body_timeout` seconds.

        The limit gives way where a provider documents larger bodies. Without `keys` nobody can unsubscribe by a click.
        """
        self._keys = keys
        self._endpoints = endpoints
        self._keeper = keeper
        self._public_url = public_url.rstrip("/")
        self._body_limit = body_limit
        self._body_timeout = body_timeout
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._huge = asyncio.Semaphore(1)
        self._room = Room(ROOM)

    def app(self) -> web.Application:
        """The application with its routes; more may be added to it, but for paths below /webhooks."""
        logging.getLogger("aiohttp.server").addFilter(_without_content)
        app = web.Application()
        for provider, intake in INTAKES.items():
            for path, other in intake.beside.items():
                resource = app.router.add_resource(f"/webhooks/{provider}/{{endpoint}}{path}")
                resource.add_route("POST", partial(self._post, provider, other, False))
                resource.add_route("*", partial(self._refuse, "method"))
            for path, receipts in (("", False), ("/status", True))[: 1 + intake.status_path]:
                secret = "/{secret}" if intake.secret_path else ""
                resource = app.router.add_resource(f"/webhooks/{provider}/{{endpoint}}{path}{secret}")
                resource.add_route("POST", partial(self._post, provider, intake, receipts))
                if intake.challenge is not None:
                    resource.add_route("GET", partial(self._verify, provider, intake.challenge))
                resource.add_route("*", partial(self._refuse, "method"))
        if self._keys is not None:
            Unsubscribing(self._endpoints, self._keeper, self._keys, self._public_url).add(app)
        app.router.add_route("*", "/webhooks{rest:.*}", partial(self._refuse, "unknown_path"))
        return app

    async def _verify(
        self, provider: str, challenge: Callable[[str, str], str | None], request: web.Request
    ) -> web.StreamResponse:
        """Answer a provider that asks, when a webhook URL is entered there, whether the URL is meant."""
        try:
            endpoint = self._endpoint(provider, request.match_info["endpoint"])
        except _Refused as refused:
            return await self._refuse(refused.reason, request)
        told = challenge(origin_form(request.raw_path).partition("?")[2], endpoint.verify_token)
        if told is None:
            return await self._refuse("verify_token", request)
        return web.Response(text=told)

    async def _post(self, provider: str, intake: Intake, receipts: bool, request: web.Request) -> web.StreamResponse:
        try:
            endpoint = self._endpoint(provider, request.match_info["endpoint"])
            if intake.secret_path:  # before a place or a body is taken by somebody who does not know it
                self._check(intake, endpoint, request, b"")
            async with (
                self._large if _is_over(request, LARGE_BODY) else nullcontext(),
                self._huge if intake.largest > HUGE_BODY and _is_over(request, HUGE_BODY) else nullcontext(),
            ):
                await self._take(endpoint, intake, receipts, request)
        except _Refused as refused:
            return await self._refuse(refused.reason, request, intake)
        except NotKept as error:
            log.error("webhook not kept", why=str(error))
            return await self._refuse("not_kept", request)
        except Exception as error:
            # Only where and what kind: the text of an error may quote the body.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("receiving failed", error=type(error).__name__, at=f"{place.filename}:{place.lineno}")
            return await self._refuse("error", request)
        return web.Response(body=intake.answer, content_type=intake.answer_type)

    async def _take(self, endpoint: Endpoint, intake: Intake, receipts: bool, request: web.Request) -> None:
        """Check a request and make it durable. Raises _Refused or NotKept."""
        target = origin_form(request.raw_path)
        content_type = request.headers.get("Content-Type", "")
        if not intake.takes(content_type.partition(";")[0].strip().lower(), target.partition("?")[2]):
            raise _Refused("content_type")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Refused("compressed")
        body = await self._body(request, max(self._body_limit, intake.largest), self._body_timeout * intake.patience)
        if not intake.secret_path:
            self._check(intake, endpoint, request, body)
        else:  # what is kept holds no secret
            target = target.partition("?")[0].rpartition("/")[0]
        url = self._public_url + target
        received_at = datetime.now(UTC)
        async with self._room.held(len(body)) if len(body) > LARGE_BODY else nullcontext():
            webhook = WebhookReceived.of(
                endpoint.id,
                body,
                tenant_id=endpoint.tenant_id,
                provider=endpoint.provider,
                receipts=receipts or intake.only_receipts(body),
                received_at=received_at,
                method=request.method,
                url=printable(url),
                content_type=printable(content_type),
                headers={name: printable(request.headers[name]) for name in KEPT_HEADERS if name in request.headers},
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

    def _check(self, intake: Intake, endpoint: Endpoint, request: web.Request, body: bytes) -> None:
        """Raises _Refused where it is not the provider who calls."""
        url = self._public_url + origin_form(request.raw_path)
        raw = RawWebhook(request.method, url, request.headers.get("Content-Type", ""), request.headers, body)
        secrets = endpoint.url_secrets or endpoint.tokens if intake.secret_path else endpoint.tokens
        if not intake.verify(raw, secrets):
            raise _Refused("signature")

    async def _body(self, request: web.Request, limit: int, within: float) -> bytes:
        if (request.content_length or 0) > limit:
            raise _Refused("too_large")
        try:
            # Not request.read(): that keeps the body for as long as the request lives, cycles and all.
            if request.content.is_eof():  # all of it came with its headers, as nearly always: nothing to wait for
                body = request.content.read_nowait()
            else:
                body = await self._slow_body(request.content, limit, within)
        except TimeoutError:
            raise _Refused("stalled") from None
        except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError, OSError):
            raise _Refused("broken_body") from None
        if len(body) > limit:  # grew over it without having said so
            raise _Refused("too_large")
        return body

    async def _slow_body(self, content: StreamReader, limit: int, within: float) -> bytes:
        """A body as it arrives, until it is whole or over the limit. Raises TimeoutError."""
        async with asyncio.timeout(within):
            body = bytearray(await content.readany())
            while not content.at_eof() and len(body) <= limit:
                body += await content.readany()
        return bytes(body)

    async def _refuse(self, reason: str, request: web.Request, intake: Intake | None = None) -> web.StreamResponse:
        REFUSED.labels(reason).inc()
        refusal = REFUSALS[reason]
        name = request.match_info.get("endpoint", "")
        log.warning(
            "webhook refused",
            reason=reason,
            status=refusal.status,
            endpoint=str(endpoint.id) if (endpoint := self._endpoints.find(name)) else None,
            size=request.content_length,
        )
        provider = request.path.split("/")[2:3]
        intake = intake or (INTAKES.get(provider[0]) if provider else None)
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


def _is_over(request: web.Request, size: int) -> bool:
    """Whether its body may be larger."""
    length = request.content_length
    return length is None or length > size


def origin_form(target: str) -> str:
    """Path and query as they were sent; a request line may also hold a whole URL, whose host says nothing to us."""
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def printable(text: str) -> str:
    """Header values and paths may hold bytes that are no UTF-8 and came to us as surrogates: these become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
