"""Plays the customers of Meta's numbers: what they write comes as a signed webhook. Numbers are added here too.

All webhooks of a number go to one URL, as at Meta those of an app do: `POST /sandbox/meta/numbers` sets it, and a
customer who writes (`POST /sandbox/meta/customer`) to another one changes it.
"""

import asyncio
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.courier import Courier, RetryPolicy, address_problem
from ops.sandbox.limits import Limits
from ops.sandbox.meta_forms import PHONE_NUMBER_ID, inbound_body, webhook_headers
from ops.sandbox.meta_numbers import Digits, Number, Numbers
from ops.sandbox.meta_reads import Reads

META = "meta"


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


class Customers:
    """The customers of all numbers."""

    def __init__(self, numbers: Numbers, limits: Limits, reads: Reads, courier: Courier) -> None:
        self._numbers = numbers
        self._limits = limits
        self._reads = reads
        self._courier = courier

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/sandbox/meta/customer", self._customer),
            web.post("/sandbox/meta/numbers", self._add_number),
        ]

    async def _customer(self, request: web.Request) -> web.Response:
        said = await read_json(request, _CUSTOMER)
        number = self._numbers.get(said.phone_number_id)
        if number is None:
            raise bad_request(("phone_number_id", "not known; POST it to /sandbox/meta/numbers first"))
        if problem := address_problem(said.webhook_url):
            raise bad_request(("webhook_url", problem))
        number = number.model_copy(update={"webhook_url": said.webhook_url})
        self._numbers.set(number)
        self._numbers.customer_wrote(number, said.sender.removeprefix("+"))
        self._limits.received(META, number.phone_number_id)
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

    async def _add_number(self, request: web.Request) -> web.Response:
        number = await read_json(request, _NUMBER)
        if number.webhook_url is not None and (problem := address_problem(number.webhook_url)):
            raise bad_request(("webhook_url", problem))
        self._numbers.set(number)
        return json_answer({"phone_number_id": number.phone_number_id})
