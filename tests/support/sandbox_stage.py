"""What the sandbox's tests stand on: the running sandbox, the SDK pointed at it, and a webhook receiver like ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from ops.sandbox.app import make_app, serving
from ops.sandbox.client import SandboxClient
from ops.sandbox.receipts import Delays
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN

CUSTOMER = "whatsapp:+5215512345678"
CHANNEL = "whatsapp:+14155238886"
# The SDK hands aiohttp a BasicAuth, which aiohttp 3.14 deprecates in two places.
SDK_WARNINGS = [
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'auth' parameter is deprecated:DeprecationWarning"),
]
QUICK = Delays(sent=0.01, delivered=0.03, read=0.05)


class RewritingHttpClient(AsyncTwilioHttpClient):  # type: ignore[misc]  # the SDK ships no types
    """The SDK's own client, sent to the sandbox instead of https://api.twilio.com."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base_url = base_url

    async def request(self, method: str, url: str, *args: object, **kwargs: object) -> Response:
        return await super().request(method, url.replace("https://api.twilio.com", self._base_url), *args, **kwargs)


@dataclass
class Stage:
    base_url: str
    sandbox: SandboxClient

    @asynccontextmanager
    async def twilio(self, sid: str = ACCOUNT_SID, token: str = AUTH_TOKEN) -> AsyncIterator[Client]:
        http_client = RewritingHttpClient(self.base_url)
        try:
            yield Client(sid, token, http_client=http_client)
        finally:
            await http_client.close()


@asynccontextmanager
async def playing(delays: Delays = QUICK, keep_messages: int = 1000) -> AsyncIterator[Stage]:
    app = make_app(delays=delays, keep_messages=keep_messages)
    async with serving(app) as base_url, SandboxClient(base_url) as sandbox:
        yield Stage(base_url, sandbox)


@dataclass
class Webhook:
    url: str
    form: dict[str, str]
    headers: CIMultiDictProxy[str]

    def signed_by(self, token: str) -> bool:
        return bool(RequestValidator(token).validate(self.url, self.form, self.headers["X-Twilio-Signature"]))


@dataclass
class Receiver:
    """Takes webhooks and keeps them; answers what `answers` says, the last one for good (0: drops the connection)."""

    answers: list[int] = field(default_factory=lambda: [200])
    taken: list[Webhook] = field(default_factory=list)
    url: str = ""
    _arrived: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.taken.append(Webhook(str(request.url), form, request.headers))
        self._arrived.put_nowait(None)
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0 and request.transport is not None:
            request.transport.close()
        headers = {"Location": self.url} if status == 307 else None
        return web.Response(
            text="<Response></Response>", content_type="text/xml", status=status or 200, headers=headers
        )

    async def got_any(self, within: float) -> bool:
        """Whether a webhook comes within so many seconds. `got` counts it too."""
        try:
            async with asyncio.timeout(within):
                await self._arrived.get()
        except TimeoutError:
            return False
        self._arrived.put_nowait(None)
        return True

    async def got(self, count: int, within: float = 30.0) -> list[Webhook]:
        """The webhooks, once there are `count`; then a moment more, in which no other may come."""
        async with asyncio.timeout(within):
            for _ in range(count):
                await self._arrived.get()
        await asyncio.sleep(0.15)
        assert len(self.taken) == count, [webhook.form for webhook in self.taken]
        return self.taken


@asynccontextmanager
async def receiving(*answers: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers) or [200])
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    async with TestServer(app) as server:
        receiver.url = str(server.make_url("/hook"))
        yield receiver
