"""Sends messages through Meta's Graph API: one POST, whose outcome is one class of the closed set.

`POST /{version}/{phone number id}/messages`, or `…/marketing_messages` with the same body and the same answer. Meta has
no official SDK for Python.
https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api
…/whatsapp/marketing-messages/send-marketing-messages
"""

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote

import orjson

from shared.domain import addresses
from shared.domain.model import Outgoing
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ContentRejected,
    RecipientInvalid,
    Refusal,
    SendResult,
    SentList,
    Unreachable,
)
from shared.providers.credentials import read_credentials
from shared.providers.http_outcomes import Answer, outcome_of, remedy_of
from shared.providers.json_fields import items_of, text_of
from shared.providers.meta.client import GraphClient, MetaCredentials, named
from shared.providers.meta.errors import NOT_ALLOWED, error_class, refusal
from shared.providers.meta.requests import Body, body_of

# https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-pacing. The third state
# is `accepted`. Of either of these two, a receipt says later whether the message was sent or dropped (132015).
_HELD = frozenset(("held_for_quality_assessment", "paused"))
_LONGEST_READ = 4.0  # seconds of a call that marks a message as read; a later mark is of no use


class MetaSender:
    """A `base.Sender` with one access token. Made inside a running loop, closed by its owner.

    `base_url` is the Graph API's address with its version; `timeout` bounds one call in seconds, connecting included.
    The channel's address is the phone number id, which is part of each call's path.
    """

    def __init__(
        self, credentials: MetaCredentials, *, timeout: float, base_url: str, proxy: str | None = None
    ) -> None:
        self._timeout = timeout
        self._graph = GraphClient(credentials, timeout=timeout, base_url=base_url, proxy=proxy)

    async def send(self, message: Outgoing) -> SendResult:
        """One POST, repeated only where Meta refuses a number that can be written in another way.

        Raises nothing but CancelledError, after which the outcome is unknown.
        """
        until = time.monotonic() + self._timeout
        result = await self._send(message, self._timeout)
        other = _other_spelling(message.recipient)
        if other is None or not isinstance(result, RecipientInvalid) or result.code != NOT_ALLOWED:
            return result
        left = until - time.monotonic()
        if left <= 0:
            return Unreachable("timeout", "refused in one spelling, and no time was left for the other")
        return await self._send(replace(message, recipient=other), left)

    async def _send(self, message: Outgoing, within: float) -> SendResult:
        body = body_of(message)
        if not isinstance(body, dict):
            return body
        try:
            data = orjson.dumps(body)
        except orjson.JSONEncodeError:
            return ContentRejected("content", "the text holds half a character, which is no UTF-8")
        path = "marketing_messages" if message.marketing and message.template is not None else "messages"
        answered = await self._post(message.sender, path, data, within)
        if not isinstance(answered, dict):
            return answered
        _, first = next(items_of(answered, "messages", "", []), ("", {}))
        external_id = text_of(first, "id")
        if not external_id:
            return Ambiguous("unreadable", "accepted, but the answer names no id")
        return Accepted(external_id, held=text_of(first, "message_status").strip().lower() in _HELD)

    async def show_read(self, address: str, external_id: str, *, typing: bool) -> Refusal | None:
        """Mark a customer's message as read and, with `typing`, show for 25 s at most that we type.

        …/whatsapp/typing-indicators: only where an answer follows, which ends it.
        """
        body: Body = {"messaging_product": "whatsapp", "status": "read", "message_id": external_id}
        if typing:
            body["typing_indicator"] = {"type": "text"}
        try:
            data = orjson.dumps(body)
        except orjson.JSONEncodeError:
            return ContentRejected("content", "the message's id holds half a character, which is no UTF-8")
        answered = await self._post(address, "messages", data, min(self._timeout, _LONGEST_READ))
        return None if isinstance(answered, dict) else answered

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        """None: Meta has no list of messages. A receipt, which holds our id, resolves a send of unknown outcome."""
        return None

    async def check(self, address: str) -> str | None:
        """None where the access token may use the phone number of this id, else a sentence with the remedy."""
        try:
            async with asyncio.timeout(self._timeout):
                answered = await self._graph.call(
                    "GET", f"{quote(address, safe='')}?fields=display_phone_number,verified_name"
                )
        except Exception as error:
            return remedy_of(error, "Meta", named)
        if not isinstance(answered, Answer):
            return None
        if (answered.code, answered.subcode) == ("100", "33") or answered.status == 404:
            return "Meta knows no such phone number id, or the access token may not see it: check both"
        if answered.status in (400, 401, 403) or error_class(answered.code) is not None:
            return f"Meta refuses the access token ({answered.code or answered.status}): enter a new one"
        return f"Meta answered {answered.status}: try again later"

    async def close(self) -> None:
        await self._graph.close()

    async def _post(self, address: str, path: str, data: bytes, within: float) -> Body | Refusal:
        """Meta's answer to a POST below a phone number. Raises nothing but CancelledError."""
        answered = await outcome_of(self._graph.call("POST", f"{quote(address, safe='')}/{path}", data), within, named)
        return refusal(answered) if isinstance(answered, Answer) else answered


def make_sender(credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> MetaSender:
    """A sender for a channel's opened credentials, the JSON of MetaCredentials. Made inside a running loop.

    Raises ValueError that names each wrong field, and none of their values.
    """
    opened = read_credentials(MetaCredentials, credentials, "Meta")
    return MetaSender(opened, timeout=timeout, base_url=api_url, proxy=proxy)


def _other_spelling(recipient: str) -> str | None:
    """The other spelling of a mobile number of Mexico or Argentina; None for any other country's.

    WhatsApp writes `521…` and `549…`. Meta compares a recipient as text with its list of allowed recipients, which may
    hold the form without that digit.
    """
    number = addresses.phone(recipient)
    if number is None or not number.canonical.startswith(("+52", "+54")):
        return None
    given = "".join(filter(str.isdigit, recipient))
    return next((way for way in sorted(addresses.written_ways(number.canonical)) if way != given), None)
