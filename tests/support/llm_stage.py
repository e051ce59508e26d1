"""What the llm engine's tests stand on: the engine pointed at a server, and a server that answers anything."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy

from ops.sandbox.openai import API_KEY, MODEL
from shared.bot import open_engines
from shared.bot.base import Answer, Engine, Turn
from shared.domain.channels import ReplySettings
from shared.domain.model import ChannelKind
from shared.settings import Settings

SAYS_FALLBACK = Answer("We will write soon.", "fallback")
Body = bytes | Mapping[str, object]
HELLO = (Turn("user", "hola"),)


def reply_settings(**llm: object) -> ReplySettings:
    llm = {"model": MODEL, "timeout": 5, "system_prompt": "Be kind."} | llm
    return ReplySettings.model_validate({"engine": "llm", "fallback": SAYS_FALLBACK.text, "llm": llm})


@asynccontextmanager
async def llm_engine(base_url: str, api_key: str = API_KEY) -> AsyncIterator[Engine]:
    async with open_engines(Settings.model_validate({"llm_base_url": base_url, "llm_api_key": api_key})) as engines:
        yield engines["llm"]


async def ask(
    base_url: str, *, history: Sequence[Turn] = HELLO, new: int = 1, last: int = 20, kind: ChannelKind = "whatsapp",
    **llm: object,
) -> Answer:  # fmt: skip
    async with llm_engine(base_url) as engine:
        return await engine.answer(reply_settings(history=last, **llm), history, new, kind)


@dataclass
class Reply:
    body: Body
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return web.Response(body=body, status=self.status, headers={"Content-Type": "application/json"} | self.headers)


@dataclass
class Odd:
    """A model that gives these replies in turn, the last one for good, and keeps what it was asked."""

    replies: list[Reply]
    asked: list[dict[str, object]] = field(default_factory=list)
    headers: list[CIMultiDictProxy[str]] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.asked.append(json.loads(await request.read()))
        self.headers.append(request.headers)
        return (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]).response()


@asynccontextmanager
async def answering(*replies: Body | Reply) -> AsyncIterator[Odd]:
    odd = Odd([reply if isinstance(reply, Reply) else Reply(reply) for reply in replies])
    app = web.Application()
    app.router.add_post("/v1/chat/completions", odd.take)
    async with TestServer(app) as server:
        odd.url = str(server.make_url("/v1"))
        yield odd
