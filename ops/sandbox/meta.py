"""Plays Meta: the Graph API's messages of a phone number, signed status webhooks, and the customer on the other side.

All webhooks of a number go to one URL, as at Meta those of an app do: `POST /sandbox/meta/numbers` sets it, and a
customer who writes (`POST /sandbox/meta/customer`) to another one changes it.
"""

import asyncio
import random
import time
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.answer import answer, refused
from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.courier import Courier, RetryPolicy, address_problem
from ops.sandbox.faults import FaultBook, ReceiptError, ReceiptFault
from ops.sandbox.meta_forms import (
    ACCESS_TOKEN,
    ACCOUNT,
    APP_SECRET,
    DISPLAY_NUMBER,
    PHONE_NUMBER_ID,
    accepted,
    error_body,
    error_message,
    inbound_body,
    new_id,
    request_of,
    status_body,
    webhook_headers,
)
from ops.sandbox.meta_parts import Problem
from ops.sandbox.meta_reads import Reads
from ops.sandbox.receipts import Delays, Planned, plan
from ops.sandbox.record import MessageLog, Moment, PostedReceipt, SentMessage

PROVIDER = "meta"
WINDOW_CLOSED = 131047
MOST_CUSTOMERS = 200_000  # whose window is remembered
# Meta tries for days; on this machine what the courier has for a webhook must do.
RETRIES = RetryPolicy(7, frozenset({"all"}))
_RANK = {"accepted": 0, "sent": 1, "undelivered": 2, "failed": 2, "delivered": 3, "read": 4}
Digits = Annotated[str, Field(pattern=r"^\d{5,20}$")]


class Number(BaseModel):
    """A phone number the sandbox knows. In a strict one, free-form messages need a customer's message in the window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phone_number_id: Digits
    access_token: str = Field(default=ACCESS_TOKEN, min_length=1, max_length=500)
    app_secret: str = Field(default=APP_SECRET, min_length=1, max_length=200)
    account: Digits = ACCOUNT
    webhook_url: str | None = Field(default=None, description="where its app's webhooks go; loopback only")
    enforce_window: bool = False
    window_by: Literal["answer", "receipt"] = Field(default="receipt", description="how 131047 is reported")
    window_seconds: float = Field(default=86_400.0, gt=0)


class CustomerSays(BaseModel):
    """A customer writes to us: what `POST /sandbox/meta/customer` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    sender: str = Field(alias="from", min_length=1)
    phone_number_id: Digits = PHONE_NUMBER_ID
    text: str = ""
    webhook_url: str = Field(description="where the app's webhooks go; loopback only")
    profile_name: str | None = None
    message_id: str | None = None
    times: int = Field(default=1, ge=1, le=100, description="the same webhook this often, all at once")
    message: dict[str, Any] = Field(default={}, description="over the message's fields; null takes a field away")


_NUMBER = TypeAdapter(Number)
_CUSTOMER = TypeAdapter(CustomerSays)


class MetaSandbox:
    """One Meta: its phone numbers, and which customer wrote when."""

    def __init__(self, messages: MessageLog, faults: FaultBook, courier: Courier, delays: Delays) -> None:
        self._messages = messages
        self._faults = faults
        self._courier = courier
        self._delays = delays
        self._dice = random.Random(0)
        self._numbers = {PHONE_NUMBER_ID: Number(phone_number_id=PHONE_NUMBER_ID)}
        self._reads = Reads(faults, refuse)
        self._last_written: dict[tuple[str, str], float] = {}  # (phone number id, customer) → Unix seconds

    def routes(self) -> list[web.RouteDef]:
        version = r"/{version:v\d+\.\d+}"
        return [
            web.post(f"{version}/{{number}}/messages", self._send),
            web.get(f"{version}/{{number}}", self._fetch_number),
            web.route("*", f"{version}/{{rest:.*}}", self._nothing_here),
            web.post("/sandbox/meta/customer", self._customer),
            web.post("/sandbox/meta/numbers", self._add_number),
            web.get("/sandbox/meta/reads", self._reads.show),
        ]

    def clear(self) -> None:
        """Forget which customers wrote and what was read, so every window is closed again. Numbers stay."""
        self._last_written.clear()
        self._reads.clear()

    def knows(self, access_token: str) -> bool:
        """Whether this is the token of one of the numbers."""
        return any(number.access_token == access_token for number in self._numbers.values())

    def sees(self, access_token: str, account: str) -> bool:
        """Whether this is the token of a number of this business account."""
        return any((one.access_token, one.account) == (access_token, account) for one in self._numbers.values())

    # -- the Graph API -------------------------------------------------------------------------------------------------

    def _number_of(self, request: web.Request) -> Number | web.Response:
        """The phone number of this request, or the refusal."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not any(number.access_token == token for number in self._numbers.values()):
            return refuse(401, 190)
        number = self._numbers.get(request.match_info["number"])
        if number is None or number.access_token != token:
            return refuse(400, 100, "Unsupported request: no such object, or no permission to see it", subcode=33)
        return number

    async def _send(self, request: web.Request) -> web.Response:
        received_at = Moment.now()
        number = self._number_of(request)
        if isinstance(number, web.Response):
            return number
        try:
            asked = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return refuse(400, 100, "(#100) The body is no JSON")
        if isinstance(asked, dict) and asked.get("status") == "read":
            return await self._reads.take(request, received_at, number.phone_number_id, number.account, asked)
        read = request_of(asked)
        if isinstance(read, Problem):
            return refuse(*read[:3], subcode=read.subcode)
        message = SentMessage(
            seq=self._messages.next_seq(),
            received_at=received_at,
            provider=PROVIDER,
            sid=new_id(),
            account=number.account,
            to=read.to,
            sender=number.phone_number_id,
            body=read.body,
            media_urls=read.media,
            content_sid=read.template,
            content_variables=read.details,
            status_callback=number.webhook_url,
            opaque=read.opaque,
        )
        self._messages.add(message)
        try:
            if number.window_by == "answer" and self._window_closed(number, message):
                return refused(message, refuse(400, WINDOW_CLOSED), WINDOW_CLOSED)
            fault = self._faults.answer_fault(PROVIDER, to=message.to, body=message.body, account=number.account)
            accept = partial(self._accept, number, message, read.opaque)
            return await answer(request, message, fault, accept=accept, refuse=refuse)
        finally:
            message.finished_at = Moment.now()

    def _window_closed(self, number: Number, message: SentMessage) -> bool:
        if not number.enforce_window or message.content_sid:
            return False
        written = self._last_written.get((number.phone_number_id, message.to.removeprefix("+")))
        return written is None or time.time() - written >= number.window_seconds

    def _accept(self, number: Number, message: SentMessage, opaque: str | None) -> web.Response:
        message.status = "accepted"
        self._messages.accept(message)
        faults: list[ReceiptFault] = self._faults.receipt_faults(
            PROVIDER, to=message.to, body=message.body, account=number.account
        )
        if self._window_closed(number, message):
            faults.append(
                ReceiptError(
                    provider="meta", action="receipt_error", status="failed", code=WINDOW_CLOSED, after_sent=False
                )
            )
        for step in plan(("sent", "delivered", "read"), self._delays, faults, self._dice):
            self._courier.later(step.after, partial(self._step, number, message, opaque, step))
        return json_answer(accepted(message))

    async def _step(self, number: Number, message: SentMessage, opaque: str | None, step: Planned) -> None:
        """A message moves on, and the app gets a status webhook."""
        if _RANK[step.status] > _RANK[message.status]:
            message.status = step.status
        if step.error_code:
            message.error_code = step.error_code
            message.error_message = step.error_message or error_message(int(step.error_code))
        url = message.status_callback
        if url is None:
            return
        body = status_body(message, step, opaque)
        headers = webhook_headers(body, number.app_secret)
        for _ in range(step.copies):
            posted_at = time.time()
            delivery = await self._courier.deliver(url, body, headers, RETRIES)
            message.statuses.append(
                PostedReceipt(step.status, step.error_code, posted_at, delivery.status, delivery.attempts)
            )

    async def _fetch_number(self, request: web.Request) -> web.Response:
        number = self._number_of(request)
        if isinstance(number, web.Response):
            return number
        return json_answer(
            {"display_phone_number": DISPLAY_NUMBER, "verified_name": "Palomar sandbox", "id": number.phone_number_id}
        )

    async def _nothing_here(self, _: web.Request) -> web.Response:
        return refuse(404, 100, "Unknown path components")

    # -- the customer's side, and numbers ------------------------------------------------------------------------------

    async def _customer(self, request: web.Request) -> web.Response:
        said = await read_json(request, _CUSTOMER)
        number = self._numbers.get(said.phone_number_id)
        if number is None:
            raise bad_request(("phone_number_id", "not known; POST it to /sandbox/meta/numbers first"))
        if problem := address_problem(said.webhook_url):
            raise bad_request(("webhook_url", problem))
        number = number.model_copy(update={"webhook_url": said.webhook_url})
        self._numbers[number.phone_number_id] = number
        self._written(number, said.sender.removeprefix("+"))
        webhook = inbound_body(
            sender=said.sender,
            phone_number_id=number.phone_number_id,
            account=number.account,
            text=said.text,
            message_id=said.message_id,
            profile_name=said.profile_name,
            message=said.message,
        )
        message_id = webhook["entry"][0]["changes"][0]["value"]["messages"][0].get("id")
        self._reads.received(number.phone_number_id, str(message_id), said.sender.removeprefix("+"))
        body = orjson.dumps(webhook)
        headers = webhook_headers(body, number.app_secret)
        deliveries = await asyncio.gather(
            *(self._courier.deliver(said.webhook_url, body, headers, RetryPolicy()) for _ in range(said.times))
        )
        views = [delivery.view() for delivery in deliveries]
        return json_answer({"message_sid": message_id, **views[0], "deliveries": views})

    def _written(self, number: Number, customer: str) -> None:
        key = (number.phone_number_id, customer)
        self._last_written.pop(key, None)  # so that the order of the dict is that of writing
        self._last_written[key] = time.time()
        if len(self._last_written) > MOST_CUSTOMERS:
            del self._last_written[next(iter(self._last_written))]

    async def _add_number(self, request: web.Request) -> web.Response:
        number = await read_json(request, _NUMBER)
        if number.webhook_url is not None and (problem := address_problem(number.webhook_url)):
            raise bad_request(("webhook_url", problem))
        self._numbers[number.phone_number_id] = number
        return json_answer({"phone_number_id": number.phone_number_id})


def refuse(
    status: int,
    code: int | str | None = None,
    message: str = "",
    retry_after: int | None = None,
    *,
    subcode: int | None = None,
) -> web.Response:
    """The Graph API's refusal; without a code 130429 for HTTP 429, else 2, which says only that it did not work."""
    shown = (130429 if status == 429 else 2) if code is None else code
    text = message or (error_message(shown) if isinstance(shown, int) else f"Error {shown}")
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return json_answer(error_body(shown, text, subcode), status, headers)
