"""Plays Meta: the Graph API's messages of a phone number, and signed status webhooks."""

import random
from functools import partial

import orjson
from aiohttp import web

from ops.sandbox.answer import answer, refused
from ops.sandbox.bodies import json_answer
from ops.sandbox.courier import Courier
from ops.sandbox.faults import FaultBook, ReceiptError, ReceiptFault
from ops.sandbox.limits import Limits
from ops.sandbox.meta_customers import Customers
from ops.sandbox.meta_forms import (
    DISPLAY_NUMBER,
    Request,
    accepted,
    error_body,
    error_message,
    new_id,
    request_of,
)
from ops.sandbox.meta_numbers import Number, Numbers
from ops.sandbox.meta_parts import Problem
from ops.sandbox.meta_quality import Held, Templates
from ops.sandbox.meta_reads import Reads
from ops.sandbox.meta_statuses import Statuses
from ops.sandbox.receipts import Delays, Planned, plan
from ops.sandbox.record import MessageLog, Moment, SentMessage
from ops.sandbox.template_book import TemplateBook

PROVIDER = "meta"
WINDOW_CLOSED = 131047
RATE, PAIR_RATE = 130429, 131056
NOT_MARKETING = 134100
_RANK = {"accepted": 0, "sent": 1, "undelivered": 2, "failed": 2, "delivered": 3, "read": 4}


class MetaSandbox:
    """One Meta: its phone numbers, templates and what it does with a message."""

    def __init__(
        self,
        messages: MessageLog,
        faults: FaultBook,
        courier: Courier,
        delays: Delays,
        limits: Limits,
        book: TemplateBook,
    ) -> None:
        self._messages = messages
        self._faults = faults
        self._courier = courier
        self._delays = delays
        self._dice = random.Random(0)
        self._limits = limits
        self._book = book
        self.numbers = Numbers()
        self._templates = Templates(book, courier, self.numbers.of_account)
        self._reads = Reads(faults, refuse)
        self._statuses = Statuses(courier)

    def routes(self) -> list[web.RouteDef]:
        version = r"/{version:v\d+\.\d+}"
        return [
            web.post(f"{version}/{{number}}/messages", partial(self._send, False)),
            web.post(f"{version}/{{number}}/marketing_messages", partial(self._send, True)),
            web.get(f"{version}/{{number}}", self._fetch_number),
            web.route("*", f"{version}/{{rest:.*}}", self._nothing_here),
            *Customers(self.numbers, self._limits, self._reads, self._courier).routes(),
            web.get("/sandbox/meta/reads", self._reads.show),
            *self._templates.routes(),
        ]

    def clear(self) -> None:
        """Forget which customers wrote and what was read, so every window is closed again, and what is held. Numbers
        stay."""
        self.numbers.close_windows()
        self._templates.clear()
        self._reads.clear()

    # -- the Graph API -------------------------------------------------------------------------------------------------

    def _number_of(self, request: web.Request) -> Number | web.Response:
        """The phone number of this request, or the refusal."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.numbers.knows(token):
            return refuse(401, 190)
        number = self.numbers.get(request.match_info["number"])
        if number is None or number.access_token != token:
            return refuse(400, 100, "Unsupported request: no such object, or no permission to see it", subcode=33)
        return number

    async def _send(self, marketing: bool, request: web.Request) -> web.Response:
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
        if marketing and not isinstance(read, Problem):
            read = self._off_the_marketing_path(read, number) or read
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
            marketing=marketing,
        )
        self._messages.add(message)
        try:
            if problem := self._problem(number, message):
                return refused(message, refuse(*problem[:3], problem.retry_after), problem.code)
            fault = self._faults.answer_fault(PROVIDER, to=message.to, body=message.body, account=number.account)
            accept = partial(self._accept, number, message, read.opaque)
            return await answer(request, message, fault, accept=accept, refuse=refuse)
        finally:
            message.finished_at = Moment.now()

    def _off_the_marketing_path(self, read: Request, number: Number) -> Problem | None:
        """Why the path for marketing messages refuses this one; None where it takes it."""
        if read.template is None:
            return Problem(400, 100, "(#100) Invalid parameter: message must be a template message")
        known = self._book.of_meta(number.account, read.template)
        if known is not None and known.get("category") != "MARKETING":
            return Problem(400, NOT_MARKETING, f"(#{NOT_MARKETING}) {error_message(NOT_MARKETING)}")
        return None

    def _problem(self, number: Number, message: SentMessage) -> Problem | None:
        """What Meta refuses by what it knows, beyond the body itself."""
        if exceeded := self._limits.exceeded(PROVIDER, number.phone_number_id, message.to):
            which, limit = exceeded
            code, status = (PAIR_RATE, 400) if which == "pair" else (limit.code or RATE, 429)
            return Problem(status, code, f"(#{code}) {error_message(code)}", retry_after=limit.retry_after)
        if problem := self._templates.problem(number.account, message.content_sid):
            return problem
        if number.window_by == "answer" and self.numbers.window_closed(number, message):
            return Problem(400, WINDOW_CLOSED, error_message(WINDOW_CLOSED))
        return None

    def _accept(self, number: Number, message: SentMessage, opaque: str | None) -> web.Response:
        message.status = "accepted"
        message.charged = self._charged(number, message)
        self._messages.accept(message)
        held = Held(partial(self._deliver, number, message, opaque), partial(self._drop, number, message, opaque))
        if self._templates.holds(number.account, message.content_sid, held):
            return json_answer(accepted(message, "held_for_quality_assessment"))
        self._deliver(number, message, opaque)
        return json_answer(accepted(message, "accepted" if message.content_sid else None))

    def _charged(self, number: Number, message: SentMessage) -> str:
        """The category by which Meta charges it."""
        if message.content_sid is None:
            return "service"
        known = self._book.of_meta(number.account, message.content_sid) or {}
        return "marketing_lite" if message.marketing else str(known.get("category") or "marketing").lower()

    def _drop(self, number: Number, message: SentMessage, opaque: str | None, code: int) -> None:
        self._courier.later(0, partial(self._step, number, message, opaque, Planned(0, "failed", str(code))))

    def _deliver(self, number: Number, message: SentMessage, opaque: str | None) -> None:
        """Let the message go its way, with the receipts of its number."""
        faults: list[ReceiptFault] = self._faults.receipt_faults(
            PROVIDER, to=message.to, body=message.body, account=number.account
        )
        if self.numbers.window_closed(number, message):
            faults.append(
                ReceiptError(
                    provider="meta", action="receipt_error", status="failed", code=WINDOW_CLOSED, after_sent=False
                )
            )
        for step in plan(number.receipts, self._delays, faults, self._dice):
            self._courier.later(step.after, partial(self._step, number, message, opaque, step))

    async def _step(self, number: Number, message: SentMessage, opaque: str | None, step: Planned) -> None:
        """A message moves on, and the app gets a status webhook."""
        if _RANK[step.status] > _RANK[message.status]:
            message.status = step.status
        if step.error_code:
            message.error_code = step.error_code
            message.error_message = step.error_message or error_message(int(step.error_code))
        await self._statuses.deliver(number, message, opaque, step)

    async def _fetch_number(self, request: web.Request) -> web.Response:
        number = self._number_of(request)
        if isinstance(number, web.Response):
            return number
        return json_answer(
            {"display_phone_number": DISPLAY_NUMBER, "verified_name": "Palomar sandbox", "id": number.phone_number_id}
        )

    async def _nothing_here(self, _: web.Request) -> web.Response:
        return refuse(404, 100, "Unknown path components")


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
