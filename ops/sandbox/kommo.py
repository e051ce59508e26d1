"""Plays Kommo: the Chats API of a channel, CRM and Chats API webhooks, and the customer and the manager behind them.

As at Kommo, what we send comes back as a CRM webhook too, to where the customer's last one went.
"""

import asyncio
import time
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.answer import answer, refused
from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.courier import Courier, RetryPolicy, address_problem
from ops.sandbox.faults import FaultBook
from ops.sandbox.kommo_forms import (
    BOT_ID,
    CHANNEL_SECRET,
    CRM_HEADERS,
    SCOPE_ID,
    Json,
    Problem,
    chats_headers,
    chats_message,
    crm_body,
    error_body,
    new_id,
    request_of,
    signature_problem,
)
from ops.sandbox.kommo_reports import Reports
from ops.sandbox.limits import Limits
from ops.sandbox.receipts import Delays
from ops.sandbox.record import MessageLog, Moment, SentMessage

PROVIDER = "kommo"
MOST_CHATS = 200_000  # whose webhook URL is remembered
# Kommo tries CRM webhooks again after minutes; on this machine a few seconds must do.
RETRIES = RetryPolicy(5, frozenset({"all"}))
Id = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]


class KommoChannel(BaseModel):
    """A channel in one account, as the sandbox knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope_id: Id
    secret: str = Field(default=CHANNEL_SECRET, min_length=1, max_length=200)
    bot_id: Id = BOT_ID
    echoes: bool = Field(default=True, description="whether what we send comes back as a CRM webhook")


class Says(BaseModel):
    """A customer or an agent writes in a chat: what `POST /sandbox/kommo/customer` and `…/manager` take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chat_id: Id
    text: str = ""
    webhook_url: str = Field(description="loopback only")
    through: Literal["crm", "chats"] = Field(
        default="crm", description="which webhook tells it; a customer's the CRM's"
    )
    scope_id: Id = SCOPE_ID
    name: str = "Customer"
    message_id: str | None = None
    author_id: str | None = None
    author_type: str | None = None
    times: int = Field(default=1, ge=1, le=100, description="the same webhook this often, all at once")
    fields: dict[str, str | None] = Field(default={}, description="over a CRM message's fields, by their brackets")
    message: dict[str, Any] = Field(default={}, description="over a Chats API message's fields")


_CHANNEL = TypeAdapter(KommoChannel)
_SAYS = TypeAdapter(Says)


class KommoSandbox:
    """One Kommo: its channels, and where each chat's CRM webhooks go."""

    def __init__(
        self, messages: MessageLog, faults: FaultBook, courier: Courier, delays: Delays, limits: Limits
    ) -> None:
        self._messages = messages
        self._faults = faults
        self._courier = courier
        self._delays = delays
        self._limits = limits
        self._reports = Reports(faults, _refuse)
        self._channels = {SCOPE_ID: KommoChannel(scope_id=SCOPE_ID)}
        self._hooks: dict[str, str] = {}  # chat id → where its CRM webhooks go
        self._ours: dict[str, str] = {}  # message id → the id its sender gave it

    def routes(self) -> list[web.RouteDef]:
        base = "/v2/origin/custom/{scope}"
        return [
            web.post(base, self._send),
            web.post(f"{base}/react", self._react),
            web.post(f"{base}/connect", self._connect),
            web.post(f"{base}/{{msgid}}/delivery_status", self._report),
            web.get(f"{base}/chats/{{chat}}/history", self._history),
            web.post("/sandbox/kommo/customer", partial(self._says, False)),
            web.post("/sandbox/kommo/manager", partial(self._says, True)),
            web.post("/sandbox/kommo/channels", self._add_channel),
            web.get("/sandbox/kommo/reports", self._reports.show),
        ]

    def clear(self) -> None:
        """Forget who wrote; channels stay."""
        self._hooks.clear()
        self._ours.clear()
        self._reports.clear()

    # -- the Chats API -------------------------------------------------------------------------------------------------

    async def _called(self, request: web.Request) -> tuple[KommoChannel, object] | web.Response:
        """The channel of a call and its JSON, or the refusal."""
        scope = request.match_info["scope"]
        channel = self._channels.get(scope)
        if channel is None and request.path.endswith("/connect"):
            channel = next((one for name, one in self._channels.items() if name.startswith(f"{scope}_")), None)
        if channel is None:
            return _refuse(404, 404, "no such channel")
        body = await request.read()
        path = request.raw_path.partition("?")[0]  # as it was sent, which is what was signed
        problem = signature_problem(request.method, path, request.headers, body, channel.secret)
        if problem is not None:
            return _refuse(*problem)
        try:
            return channel, orjson.loads(body) if body else None
        except orjson.JSONDecodeError:
            return _refuse(400, 400, "the body is no JSON")

    async def _send(self, request: web.Request) -> web.Response:
        received_at = Moment.now()
        called = await self._called(request)
        if isinstance(called, web.Response):
            return called
        channel, asked = called
        read = request_of(asked, channel.bot_id)
        if isinstance(read, Problem):
            return _refuse(*read)
        message = self._message(channel, received_at, read.chat_id, read.body, read.media, read.msgid)
        self._ours[message.sid] = read.msgid
        try:
            if exceeded := self._limits.exceeded(PROVIDER, channel.scope_id, message.to):
                return refused(message, _refuse(429, retry_after=exceeded[1].retry_after), 429)
            fault = self._faults.answer_fault(PROVIDER, to=message.to, body=message.body, account=channel.scope_id)
            accept = partial(self._accept, channel, message, read.msgid)
            return await answer(request, message, fault, accept=accept, refuse=_refuse)
        finally:
            message.finished_at = Moment.now()

    def _message(
        self, channel: KommoChannel, received_at: Moment, chat_id: str, body: str, media: tuple[str, ...] = (),
        msgid: str | None = None,
    ) -> SentMessage:  # fmt: skip
        message = SentMessage(
            seq=self._messages.next_seq(), received_at=received_at, provider=PROVIDER, sid=new_id(),
            account=channel.scope_id, to=chat_id, sender=channel.scope_id, body=body, media_urls=media,
            opaque=msgid,
        )  # fmt: skip
        self._messages.add(message)
        return message

    def _accept(self, channel: KommoChannel, message: SentMessage, msgid: str) -> web.Response:
        message.status = "sent"
        self._messages.accept(message)
        url = self._hooks.get(message.to)
        if channel.echoes and url is not None:
            self._courier.later(self._delays.sent, partial(self._echo, channel, message, url))
        answer = {"conversation_id": message.to, "sender_id": channel.bot_id, "msgid": message.sid, "ref_id": msgid}
        return json_answer({"new_message": answer})

    async def _echo(self, channel: KommoChannel, message: SentMessage, url: str) -> None:
        body = crm_body(
            chat_id=message.to, text=message.body, outgoing=True, author=channel.bot_id, message_id=message.sid
        )
        await self._courier.deliver(url, body, CRM_HEADERS, RETRIES)

    async def _react(self, request: web.Request) -> web.Response:
        received_at = Moment.now()
        called = await self._called(request)
        if isinstance(called, web.Response):
            return called
        channel, asked = called
        given = asked if isinstance(asked, dict) else {}
        if not given.get("id") or given.get("type") not in ("react", "unreact"):
            return _refuse(400, 400, "id and type are required")
        message = self._message(
            channel, received_at, str(given.get("conversation_ref_id")), str(given.get("emoji", ""))
        )
        message.status, message.answered, message.finished_at = "sent", True, Moment.now()
        self._messages.accept(message)
        return web.Response()

    async def _report(self, request: web.Request) -> web.Response:
        received_at = Moment.now()
        called = await self._called(request)
        if isinstance(called, web.Response):
            return called
        channel, asked = called
        return await self._reports.take(request, received_at, channel.scope_id, asked)

    async def _connect(self, request: web.Request) -> web.Response:
        called = await self._called(request)
        if isinstance(called, web.Response):
            return called
        channel, asked = called
        account = asked.get("account_id") if isinstance(asked, dict) else None
        if not isinstance(asked, dict) or asked.get("hook_api_version") != "v2":
            return _refuse(400, 400, "hook_api_version: v2 is needed")
        if f"{request.match_info['scope']}_{account}" != channel.scope_id:
            return _refuse(404, 404, "no such account")
        return json_answer({"account_id": account, "scope_id": channel.scope_id, "hook_api_version": "v2"})

    async def _history(self, request: web.Request) -> web.Response:
        called = await self._called(request)
        if isinstance(called, web.Response):
            return called
        sent = [m for m in self._messages.select(to=request.match_info["chat"]) if m.outcome == "accepted"]
        if not sent:
            return web.Response(status=204)
        return json_answer({"messages": [self._past(message) for message in reversed(sent)][:50]})

    def _past(self, message: SentMessage) -> Json:
        at = message.accepted_at or time.time()
        said = {"id": message.sid, "client_id": self._ours.get(message.sid, ""), "type": "text", "text": message.body}
        return {"timestamp": int(at), "sender": {"id": BOT_ID}, "receiver": {"id": message.to}, "message": said}

    # -- who writes in a chat, and channels ----------------------------------------------------------------------------

    async def _says(self, manager: bool, request: web.Request) -> web.Response:
        said = await read_json(request, _SAYS)
        channel = self._channels.get(said.scope_id)
        if channel is None:
            raise bad_request(("scope_id", "no such channel; POST it to /sandbox/kommo/channels first"))
        if problem := address_problem(said.webhook_url):
            raise bad_request(("webhook_url", problem))
        message_id = said.message_id or new_id()
        if manager and said.through == "chats":
            message = chats_message(
                chat_id=said.chat_id, text=said.text, name=said.name, message_id=message_id, message=said.message
            )
            self._reports.wrote(said.scope_id, message_id, said.chat_id)
            body = orjson.dumps(message)
            headers = chats_headers(body, channel.secret)
        else:
            self._remember(said.chat_id, said.webhook_url)
            body = crm_body(
                chat_id=said.chat_id, text=said.text, outgoing=manager, author=said.author_id,
                author_type=said.author_type, name=said.name, message_id=message_id, fields=said.fields,
            )  # fmt: skip
            headers = CRM_HEADERS
        deliveries = await asyncio.gather(
            *(self._courier.deliver(said.webhook_url, body, headers, RetryPolicy()) for _ in range(said.times))
        )
        views = [delivery.view() for delivery in deliveries]
        return json_answer({"message_sid": message_id, **views[0], "deliveries": views})

    def _remember(self, chat_id: str, url: str) -> None:
        self._hooks.pop(chat_id, None)  # so that the order of the dict is that of writing
        self._hooks[chat_id] = url
        if len(self._hooks) > MOST_CHATS:
            del self._hooks[next(iter(self._hooks))]

    async def _add_channel(self, request: web.Request) -> web.Response:
        channel = await read_json(request, _CHANNEL)
        self._channels[channel.scope_id] = channel
        return json_answer({"scope_id": channel.scope_id})


def _refuse(
    status: int, code: int | str | None = None, message: str = "", retry_after: int | None = None
) -> web.Response:
    """The Chats API's refusal."""
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return json_answer(error_body(status if code is None else code, message or f"Error {status}"), status, headers)
