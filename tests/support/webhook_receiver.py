"""Plays the systems of tenants that webhooks call: answers as it is told to, and records every request.

    async with receiving() as receiver:
        receiver.answers("/crm", Answer(500), OK)        # the first request fails, all that follow succeed
        ...                                              # a webhook with the URL receiver.url("/crm")
        (one,) = await receiver.wait("/crm", 1)
        assert one.is_signed(secret=secret)

As a process, steered over HTTP: webhook_receiver_process.py.
"""

import asyncio
import base64
import hmac
import ssl
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import orjson
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BODY_LIMIT: Final = 4 * 1024**2  # bytes
TOLERANCE: Final = 300  # seconds between a request's timestamp and now, as Standard Webhooks has it


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets, `delay` seconds after it came."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0  # seconds between the bytes of the body
    # hang: no answer; drop: the connection ends without one; cut: it ends in the middle of the body
    fault: Literal["hang", "drop", "cut"] | None = None


OK: Final = Answer()
HANG: Final = Answer(fault="hang")
DROP: Final = Answer(fault="drop")
CUT: Final = Answer(fault="cut", body=b"x" * 100)


def redirect(to: str, status: int = 302) -> Answer:
    """An answer that sends the caller elsewhere."""
    return Answer(status, headers={"Location": to})


def retry_after(seconds: float | str, status: int = 429) -> Answer:
    """An answer that asks for a pause."""
    return Answer(status, headers={"Retry-After": str(seconds)})


@dataclass(frozen=True, slots=True)
class Received:
    """A request: its headers have lower-case names, `at` is in monotonic seconds, the same clock in all processes."""

    path: str
    id: str  # the header webhook-id
    at: float
    body: bytes
    headers: Mapping[str, str]
    connection: int  # the caller's TCP port: requests of one connection share it
    answered: Answer

    @property
    def timestamp(self) -> str:
        return self.headers.get("webhook-timestamp", "")

    @property
    def signatures(self) -> list[str]:
        """`v1,…` and `v1a,…`, in the order in which they came."""
        return self.headers.get("webhook-signature", "").split()

    @property
    def succeeded(self) -> bool:
        """Whether the whole of a 2xx was given as the answer."""
        return self.answered.fault is None and 200 <= self.answered.status < 300

    def json(self) -> dict[str, object]:
        found = orjson.loads(self.body)
        assert isinstance(found, dict)
        return found

    def is_signed(self, *, secret: str | None = None, public_key: str | None = None) -> bool:
        """Whether one signature is the one of `secret` (v1), or of `public_key` (v1a), and the timestamp is of today.

        As standard-webhooks' specification has it, and none of our own code.
        """
        signed = f"{self.id}.{self.timestamp}.".encode() + self.body
        if not self.timestamp.isdigit() or abs(time.time() - int(self.timestamp)) > TOLERANCE:
            return False
        if secret is not None:
            encoded = secret.startswith("whsec_")
            key = base64.b64decode(secret.removeprefix("whsec_")) if encoded else secret.encode()
            made = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
            return any(hmac.compare_digest(made, one) for one in self.signatures)
        assert public_key is not None
        assert public_key.startswith("whpk_")
        verifier = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
        return any(_is_of(verifier, one, signed) for one in self.signatures if one.startswith("v1a,"))


def _is_of(verifier: Ed25519PublicKey, signature: str, signed: bytes) -> bool:
    try:
        verifier.verify(base64.b64decode(signature.removeprefix("v1a,")), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


class Receiver:
    """The requests so far, in order of their receipt, and what the next ones get. See `receiving`."""

    def __init__(self, *, keeps_bodies: bool = True) -> None:
        self.base = ""  # its URL, once it listens
        self.received: list[Received] = []
        self.counts: Counter[str] = Counter()  # path → requests
        self.ids: defaultdict[str, set[str]] = defaultdict(set)  # path → the ids that were answered 2xx
        self.default = OK
        self.stopping = asyncio.Event()
        self._keeps_bodies = keeps_bodies
        self._plans: dict[str, deque[Answer] | Callable[[Received], Answer]] = {}
        self._news = asyncio.Event()

    def url(self, path: str) -> str:
        return self.base + path

    def answers(self, path: str, *answers: Answer) -> None:
        """The next requests at this path get these, one each; the last one is for all that follow."""
        assert answers
        self._plans[path] = deque(answers)

    def decides(self, path: str, decide: Callable[[Received], Answer]) -> None:
        """Each request at this path gets what `decide` says; it sees the request answered with the default."""
        self._plans[path] = decide

    def clear(self) -> None:
        """Forget the requests, not what the next ones get."""
        self.received.clear()
        self.counts.clear()
        self.ids.clear()

    def at(self, path: str) -> list[Received]:
        """The requests at this path."""
        return [one for one in self.received if one.path == path]

    async def wait(self, path: str, count: int, within: float = 60.0) -> list[Received]:
        """The requests at this path, once there are so many. Raises AssertionError where there are too few."""
        await self.until(lambda: self.counts[path] >= count, within, lambda: f"{self.counts[path]} of {count} requests")
        return self.at(path)

    async def until(self, holds: Callable[[], bool], within: float, seen: Callable[[], object] = lambda: "") -> None:
        """Return once this holds; it is asked after each request. Raises AssertionError with what was `seen`."""
        deadline = time.monotonic() + within
        while not holds():
            self._news.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._news.wait()
            except TimeoutError:
                raise AssertionError(f"{seen()} after {within:g} s") from None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record a request and answer it."""
        body = await request.read()
        transport = request.transport
        received = Received(
            request.path, request.headers.get("webhook-id", ""), time.monotonic(), body if self._keeps_bodies else b"",
            {name.lower(): value for name, value in request.headers.items()} if self._keeps_bodies else {},
            transport.get_extra_info("peername")[1] if transport else 0, self.default,
        )  # fmt: skip
        answer = self._next(received)
        if answer is not self.default:
            received = replace(received, answered=answer)
        self._record(received)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.fault == "hang":
            await self.stopping.wait()
        if answer.fault in ("hang", "drop"):
            if transport is not None:
                transport.abort()
            return web.Response()
        if answer.drip or answer.fault == "cut":
            return await self._slowly(request, answer)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _next(self, received: Received) -> Answer:
        plan = self._plans.get(received.path)
        if plan is None:
            return self.default
        if isinstance(plan, deque):
            return plan.popleft() if len(plan) > 1 else plan[0]
        return plan(received)

    def _record(self, received: Received) -> None:
        self.received.append(received)
        self.counts[received.path] += 1
        if received.succeeded:
            self.ids[received.path].add(received.id)
        self._news.set()

    async def _slowly(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        sent = answer.body[: len(answer.body) // 2] if answer.fault == "cut" else answer.body
        for place in range(len(sent)):
            await response.write(sent[place : place + 1])
            if answer.drip:
                await asyncio.sleep(answer.drip)
        if answer.fault == "cut" and request.transport is not None:
            request.transport.close()
        return response

    def app(self, also: Callable[["Receiver"], Iterable[web.RouteDef]] = lambda _: ()) -> web.Application:
        """An application in which every path is a webhook's URL, but those that are named `also`."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.add_routes(also(self))
        app.router.add_route("*", "/{path:.*}", self.handle)

        async def let_go(_: web.Application) -> None:
            self.stopping.set()

        app.on_shutdown.append(let_go)
        return app


@asynccontextmanager
async def receiving(
    *,
    keeps_bodies: bool = True,
    port: int = 0,
    certificate: ssl.SSLContext | None = None,
    also: Callable[[Receiver], Iterable[web.RouteDef]] = lambda _: (),
) -> AsyncIterator[Receiver]:
    """A receiver on loopback (port 0: a free one), over TLS with this certificate.

    Without `keeps_bodies` it remembers of each request no more than path, id and time.
    """
    receiver = Receiver(keeps_bodies=keeps_bodies)
    runner = web.AppRunner(receiver.app(also), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=certificate).start()
        receiver.base = f"{'https' if certificate else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
