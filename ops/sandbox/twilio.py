"""Plays Twilio: its REST API of accounts and messages, signed status callbacks, and the customer on the other side.

The customer is ours: `POST /sandbox/customer` makes the inbound webhook that Twilio would send.
`POST /sandbox/accounts` adds an account, or makes one strict about WhatsApp's 24-hour window.
"""

import asyncio
import random
import time
from functools import partial
from urllib.parse import urlencode

from aiohttp import web
from pydantic import TypeAdapter

from ops.sandbox.answer import answer, refused
from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.courier import Courier, address_problem
from ops.sandbox.faults import FaultBook, ReceiptError, ReceiptFault
from ops.sandbox.limits import Limits
from ops.sandbox.receipts import Delays, Planned, plan
from ops.sandbox.record import MessageLog, Moment, PostedReceipt, SentMessage
from ops.sandbox.twilio_accounts import Account, Accounts, CustomerSays
from ops.sandbox.twilio_errors import error_body, error_message
from ops.sandbox.twilio_forms import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    MediaItem,
    Problem,
    inbound_form,
    is_whatsapp,
    new_sid,
    receipt_form,
    send_problem,
    sign,
    webhook_headers,
)
from ops.sandbox.twilio_optouts import UNSUBSCRIBED, OptOuts
from ops.sandbox.twilio_resources import account_resource, date_range, message_resource, page_resource, page_uri

__all__ = ["ACCOUNT_SID", "AUTH_TOKEN", "Account", "CustomerSays", "MediaItem", "TwilioSandbox", "inbound_form", "sign"]

PROVIDER = "twilio"
WINDOW_CLOSED = 63016
RATE = 20429
_RANK = {"accepted": 0, "queued": 0, "sent": 1, "undelivered": 2, "failed": 2, "delivered": 3, "read": 4}


_ACCOUNT = TypeAdapter(Account)
_CUSTOMER = TypeAdapter(CustomerSays)


class TwilioSandbox:
    """One Twilio: its accounts, and which customer wrote when."""

    def __init__(
        self, messages: MessageLog, faults: FaultBook, courier: Courier, delays: Delays, limits: Limits
    ) -> None:
        self._messages = messages
        self._faults = faults
        self._courier = courier
        self._delays = delays
        self._limits = limits
        self._dice = random.Random(0)
        self._started = time.time()
        self._accounts = Accounts(Account(sid=ACCOUNT_SID, token=AUTH_TOKEN))
        self._opt_outs = OptOuts()

    def routes(self) -> list[web.RouteDef]:
        base = "/2010-04-01/Accounts/{account}"
        return [
            web.post(f"{base}/Messages.json", self._send),
            web.get(f"{base}/Messages.json", self._list),
            web.get(f"{base}/Messages/{{sid}}.json", self._fetch),
            web.get(f"{base}.json", self._fetch_account),
            web.route("*", "/2010-04-01/{rest:.*}", self._nothing_here),
            web.post("/sandbox/customer", self._customer),
            web.post("/sandbox/accounts", self._add_account),
        ]

    def clear(self) -> None:
        """Forget which customers wrote, so every window is closed again, and which opted out. Accounts stay."""
        self._accounts.close_windows()
        self._opt_outs.clear()

    def knows(self, account: str, authorization: str) -> bool:
        """Whether this header is that account's."""
        caller = self._accounts.of(authorization)
        return caller is not None and caller.sid == account

    # -- the REST API --------------------------------------------------------------------------------------------------

    def _account_of(self, request: web.Request) -> Account | web.Response:
        """The account of this request, or the refusal."""
        caller = self._accounts.of(request.headers.get("Authorization", ""))
        named = request.match_info["account"]
        if caller is not None and caller.sid == named:
            return caller
        if self._accounts.get(named) is not None:
            return refuse(401, 20003)
        return refuse(404, 20404)

    async def _send(self, request: web.Request) -> web.Response:
        received_at = Moment.now()
        account = self._account_of(request)
        if isinstance(account, web.Response):
            return account
        try:
            fields = await request.post()
        except (ValueError, LookupError):
            return refuse(400, 20001, "The body is not a form in UTF-8")
        form = {name: value for name, value in fields.items() if isinstance(value, str)}
        media_urls = tuple(value for value in fields.getall("MediaUrl", ()) if isinstance(value, str))
        message = SentMessage(
            seq=self._messages.next_seq(),
            received_at=received_at,
            provider=PROVIDER,
            sid=new_sid("MM" if media_urls else "SM"),
            account=account.sid,
            to=form.get("To", ""),
            sender=form.get("MessagingServiceSid") or form.get("From", ""),
            body=form.get("Body", ""),
            media_urls=media_urls,
            content_sid=form.get("ContentSid") or None,
            content_variables=form.get("ContentVariables") or None,
            status_callback=form.get("StatusCallback") or None,
        )
        self._messages.add(message)
        try:
            problem = send_problem(form, media_urls) or self._refusal(account, message)
            if problem is not None:
                return refused(message, refuse(*problem), problem.code)
            fault = self._faults.answer_fault(PROVIDER, to=message.to, body=message.body, account=account.sid)
            return await answer(request, message, fault, accept=partial(self._accept, account, message), refuse=refuse)
        finally:
            message.finished_at = Moment.now()

    def _refusal(self, account: Account, message: SentMessage) -> Problem | None:
        """What Twilio refuses by what it knows, beyond the form itself."""
        if exceeded := self._limits.exceeded(PROVIDER, message.sender, message.to):
            code = exceeded[1].code or RATE
            return Problem(429, code, error_message(code), exceeded[1].retry_after)
        if message.status_callback is not None:
            host_problem = address_problem(message.status_callback)
            if host_problem is not None:
                return Problem(400, 21609, f"The 'StatusCallback' URL is not valid: {host_problem}")
        if self._opt_outs.refuses(account.sid, message.sender, message.to):
            return Problem(400, UNSUBSCRIBED, error_message(UNSUBSCRIBED))
        if account.window_by == "answer" and self._accounts.window_closed(account, message):
            return Problem(400, WINDOW_CLOSED, error_message(WINDOW_CLOSED))
        return None

    def _accept(self, account: Account, message: SentMessage) -> web.Response:
        message.status = "accepted" if message.sender.startswith("MG") else "queued"
        message.listed_at = time.time() + self._faults.listed_after(
            PROVIDER, to=message.to, body=message.body, account=account.sid
        )
        self._messages.accept(message)
        faults: list[ReceiptFault] = self._faults.receipt_faults(
            PROVIDER, to=message.to, body=message.body, account=account.sid
        )
        if self._accounts.window_closed(account, message):
            faults.append(ReceiptError(provider="twilio", action="receipt_error", code=WINDOW_CLOSED))
        usual = [one for one in account.receipts if one != "read" or is_whatsapp(message.to)]
        for step in plan(usual, self._delays, faults, self._dice):
            self._courier.later(step.after, partial(self._step, account, message, step))
        return json_answer(message_resource(message), 201)

    async def _step(self, account: Account, message: SentMessage, step: Planned) -> None:
        """A message moves on, and its sender gets a status callback."""
        if step.status == "sent":
            message.sent_at = message.sent_at or time.time()
        if _RANK[step.status] > _RANK[message.status]:
            message.status = step.status
        if step.error_code:
            message.error_code = step.error_code
            message.error_message = step.error_message or error_message(int(step.error_code))
        url = message.status_callback
        if url is None:
            return
        form = receipt_form(message, step)
        body, headers = urlencode(form).encode(), webhook_headers(url, form, account.token)
        for _ in range(step.copies):
            posted_at = time.time()
            delivery = await self._courier.deliver(url, body, headers)
            message.statuses.append(
                PostedReceipt(step.status, step.error_code, posted_at, delivery.status, delivery.attempts)
            )

    async def _list(self, request: web.Request) -> web.Response:
        account = self._account_of(request)
        if isinstance(account, web.Response):
            return account
        query = dict(request.query)
        try:
            size = min(max(int(query.get("PageSize", "50")), 1), 1000)
            page, older_than = int(query.get("Page", "0")), float(query.get("PageToken", "PAinf").removeprefix("PA"))
            ranges = {name: date_range(query[name]) for name in ("DateSent", "DateSent<", "DateSent>") if name in query}
        except ValueError:
            return refuse(400, 20001, "PageSize and Page are numbers; dates are YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ")
        first = ranges.get("DateSent>", ranges.get("DateSent", (0.0, 0.0)))[0]
        last = ranges.get("DateSent<", ranges.get("DateSent", (0.0, float("inf"))))[1]
        found = [
            message
            for message in reversed(
                self._messages.select(to=query.get("To"), sender=query.get("From"), account=account.sid)
            )
            if message.outcome == "accepted"
            and message.listed_at <= time.time()
            and message.seq < older_than
            and (not ranges or (message.sent_at is not None and first <= int(message.sent_at) <= last))
        ]
        shown = found[:size]
        plain = {name: value for name, value in query.items() if name not in ("Page", "PageToken", "PageSize")}
        plain |= {"PageSize": str(size)}
        following = {"Page": str(page + 1), "PageToken": f"PA{shown[-1].seq}"} if len(found) > size else None
        uris = {
            "uri": str(request.rel_url),
            "first_page_uri": page_uri(account.sid, plain | {"Page": "0"}),
            "next_page_uri": page_uri(account.sid, plain | following) if following else None,
            "previous_page_uri": None,
        }
        return json_answer(page_resource(shown, page, size) | uris)

    async def _fetch(self, request: web.Request) -> web.Response:
        account = self._account_of(request)
        if isinstance(account, web.Response):
            return account
        message = self._messages.get(request.match_info["sid"])
        if message is None or message.account != account.sid or message.outcome != "accepted":
            return refuse(404, 20404)
        return json_answer(message_resource(message))

    async def _fetch_account(self, request: web.Request) -> web.Response:
        account = self._account_of(request)
        return (
            account if isinstance(account, web.Response) else json_answer(account_resource(account.sid, self._started))
        )

    async def _nothing_here(self, _: web.Request) -> web.Response:
        return refuse(404, 20404)

    # -- the customer's side, and accounts -----------------------------------------------------------------------------

    async def _customer(self, request: web.Request) -> web.Response:
        said = await read_json(request, _CUSTOMER)
        account = self._accounts.get(said.account)
        if account is None:
            raise bad_request(("account", "not known to the sandbox; POST it to /sandbox/accounts first"))
        problem = address_problem(said.webhook_url)
        if problem is not None:
            raise bad_request(("webhook_url", problem))
        self._accounts.customer_wrote(account, said.sender)
        self._limits.received(PROVIDER, said.to)
        opt_out_type = self._opt_outs.received(account.sid, said.to, said.sender, said.text)
        form = inbound_form(
            sender=said.sender,
            to=said.to,
            text=said.text,
            account=account.sid,
            message_sid=said.message_sid,
            profile_name=said.profile_name,
            media=said.media,
            extra=({"OptOutType": opt_out_type} if opt_out_type else {}) | said.extra,
        )
        body, headers = urlencode(form).encode(), webhook_headers(said.webhook_url, form, account.token)
        deliveries = await asyncio.gather(
            *(self._courier.deliver(said.webhook_url, body, headers) for _ in range(said.times))
        )
        views = [delivery.view() for delivery in deliveries]
        return json_answer({"message_sid": form.get("MessageSid"), **views[0], "deliveries": views})

    async def _add_account(self, request: web.Request) -> web.Response:
        account = await read_json(request, _ACCOUNT)
        self._accounts.add(account)
        return json_answer({"sid": account.sid})


def refuse(
    status: int, code: int | str | None = None, message: str = "", retry_after: int | None = None
) -> web.Response:
    """Twilio's refusal; without a code its own for that HTTP status (20429 for 429)."""
    shown = 20000 + status if code is None else code
    text = message or (error_message(shown) if isinstance(shown, int) else f"Error {shown}")
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return json_answer(error_body(status, shown, text), status, headers)
