"""A server that answers as Twilio may, and what the tests send to it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from aiohttp import web
from pydantic import SecretStr

from shared.domain.model import Outgoing
from shared.providers.twilio.client import TwilioCredentials
from shared.providers.twilio.send import TwilioSender

ACCOUNT = "AC00000000000000000000000000000001"
CREDENTIALS = TwilioCredentials(account_sid=ACCOUNT, auth_token=SecretStr("token"))
CREATED = {"sid": "SM1", "status": "queued", "date_created": "Fri, 01 Mar 2024 12:00:00 +0000"}
OURS = UUID("01890000-0000-7000-8000-000000000002")
SINCE = datetime(2024, 3, 1, 12, tzinfo=UTC)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Provider:
    """A server that notes what it is asked and answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, list[str]]]] = []
        self.logins: list[str] = []
        self.answer: Answer = self.answering(201, CREATED)
        self.url = ""

    def answering(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        async def answer(_: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text, content_type="application/json", headers=headers)

        return answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        fields: dict[str, list[str]] = {}
        for name, value in [*request.query.items(), *parse_qsl(await request.text(), keep_blank_values=True)]:
            fields.setdefault(name, []).append(value)
        self.asked.append((request.method, request.path, fields))
        self.logins.append(request.headers["Authorization"])
        return await self.answer(request)


@asynccontextmanager
async def playing() -> AsyncIterator[Provider]:
    played = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    played.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield played
    await runner.cleanup()


@asynccontextmanager
async def sending_to(provider: Provider, total: float = 5.0) -> AsyncIterator[TwilioSender]:
    sender = TwilioSender(CREDENTIALS, timeout=total, base_url=provider.url)
    yield sender
    await sender.close()


def outgoing(**changed: Any) -> Outgoing:
    fields: dict[str, Any] = {
        "message_id": OURS,
        "channel_kind": "whatsapp",
        "sender": "+14155238886",
        "recipient": "+5215512345678",
        "text": "¡hola! 1+1=2 & más",
    }
    return Outgoing(**{**fields, **changed})
