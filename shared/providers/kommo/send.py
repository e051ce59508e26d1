"""Sends messages through Kommo's Chats API: one signed POST, whose outcome is one class of the closed set.

A chat's history has our own message ids, so the look-up of a send of unknown outcome is exact.
https://developers.kommo.com/reference/send-import-messages, …/get-chat-history, …/connect-channel,
…/update-delivery-status
"""

import asyncio
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from yarl import URL

from shared.domain.model import Outgoing
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ContentRejected,
    Refusal,
    Report,
    SendResult,
    SentList,
    SentRecord,
)
from shared.providers.credentials import read_credentials
from shared.providers.http_client import base_of, error_fields, make_session, read, retry_after
from shared.providers.http_outcomes import Answer, outcome_of, remedy_of
from shared.providers.json_fields import fields_of, instant, items_of, text_of
from shared.providers.kommo.errors import refusal, scrub
from shared.providers.kommo.requests import Call, call_of, report_of, scope_path, signed

_CONNECT_TIMEOUT = 5.0
_HISTORY = 50  # messages, the most of one call


class KommoCredentials(BaseModel):
    """A channel's credentials: its secret, and the id of its bot, in whose name we write."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    secret: SecretStr = Field(min_length=1)
    bot_id: str = Field(pattern=r"^[!-~]{1,200}$")


class KommoSender:
    """A `base.Sender` with one channel secret. Made inside a running loop, closed by its owner.

    `base_url` is the Chats API's address; `timeout` bounds one call in seconds, connecting included. The channel's
    address is the scope id, `{channel id}_{account id}`, which is part of each call's path.
    """

    def __init__(
        self, credentials: KommoCredentials, *, timeout: float, base_url: str, proxy: str | None = None
    ) -> None:
        self._timeout = timeout
        self._base = base_of(base_url, "kommo_api_url")
        self._secret = credentials.secret.get_secret_value()
        self._bot_id = credentials.bot_id
        self._session = make_session(min(_CONNECT_TIMEOUT, timeout / 2), proxy)

    async def send(self, message: Outgoing) -> SendResult:
        """One POST, never repeated here. Raises nothing but CancelledError, after which the outcome is unknown."""
        call = call_of(message, self._bot_id, datetime.now(UTC))
        if isinstance(call, ContentRejected):
            return call
        answered = await self._post(message.sender, call)
        if not isinstance(answered, dict):
            return answered
        if message.reaction is not None:  # the answer to a reaction is empty
            return Accepted(f"reaction:{message.message_id}")
        external_id = text_of(fields_of(answered, "new_message"), "msgid")
        return Accepted(external_id) if external_id else Ambiguous("unreadable", "accepted, but the answer names no id")

    async def report(self, address: str, report: Report) -> Refusal | None:
        """One POST that sets the delivery status of an agent's message; repeating it changes nothing."""
        answered = await self._post(address, report_of(report))
        return None if isinstance(answered, dict) else answered

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        """This message among the newest 50 of its chat's history, found by our id; empty where it is not among them.

        None where Kommo does not answer.
        """
        chat_id = message.recipient.partition(" ")[0]
        path = f"{scope_path(message.sender)}/chats/{quote(chat_id, safe='')}/history"
        try:
            async with asyncio.timeout(self._timeout):
                answered = await self._call("GET", path, b"", f"?limit={_HISTORY}&offset=0")
        except Exception:  # whatever went wrong, the outcome stays unknown
            return None
        if isinstance(answered, Answer):
            return None
        entries = [entry for _, entry in items_of(answered, "messages", "", [])]
        for entry in entries:
            listed = fields_of(entry, "message")
            if text_of(listed, "client_id") == str(message.message_id) and text_of(listed, "id"):
                at = instant(entry.get("timestamp")) or since
                found = SentRecord(text_of(listed, "id"), text_of(listed, "text"), "sent", at, message.message_id)
                return SentList((found,), complete=False)
        return SentList((), complete=False)  # Kommo does not document how soon it lists a message

    async def check(self, address: str) -> str | None:
        """Connect the channel to its account; returns None on success, else a sentence with the remedy."""
        channel_id, _, account_id = address.partition("_")
        data = orjson.dumps({"account_id": account_id, "hook_api_version": "v2"})
        try:
            async with asyncio.timeout(self._timeout):
                answered = await self._call("POST", f"{scope_path(channel_id)}/connect", data)
        except Exception as error:
            return remedy_of(error, "Kommo", _named)
        if isinstance(answered, Answer):
            if answered.status in (401, 403):
                return f"Kommo refuses the channel secret ({answered.status}): enter the right one"
            if answered.status in (400, 404):
                return "Kommo knows no such channel or account: check the channel id and the Chats API account id"
            return f"Kommo answered {answered.status}: try again later"
        scope_id = text_of(answered, "scope_id")
        if scope_id and scope_id != address:
            return f"Kommo calls this channel in this account {scope_id}: add it again with those two ids"
        return None

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, scope_id: str, call: Call) -> dict[str, object] | Refusal:
        """The object in a successful answer, or the class of any other outcome."""
        try:
            data = orjson.dumps(call.body)
        except orjson.JSONEncodeError:
            return ContentRejected("content", "the text holds half a character, which is no UTF-8")
        calling = self._call("POST", f"{scope_path(scope_id)}{call.path}", data)
        answered = await outcome_of(calling, self._timeout, _named)
        return refusal(answered) if isinstance(answered, Answer) else answered

    async def _call(self, method: str, path: str, data: bytes, query: str = "") -> dict[str, object] | Answer:
        """The object in a successful answer, or an unsuccessful answer. Raises any other error.

        The path is sent exactly as it was signed.
        """
        url = f"{self._base}{path}"
        headers = signed(method, urlsplit(url).path, data, self._secret, datetime.now(UTC))
        async with self._session.request(
            method, URL(f"{url}{query}", encoded=True), data=data or None, headers=headers, allow_redirects=False
        ) as answer:
            if not 200 <= answer.status < 300:
                return await _unsuccessful(answer)
            body = await read(answer)
            loaded = orjson.loads(body) if body.strip() else {}  # some answers are empty
            if not isinstance(loaded, dict):
                raise ValueError("no JSON object")
            return loaded


def make_sender(credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> KommoSender:
    """A sender for a channel's opened credentials, the JSON of KommoCredentials. Made inside a running loop.

    Raises ValueError that names each wrong field, and none of their values.
    """
    opened = read_credentials(KommoCredentials, credentials, "Kommo")
    return KommoSender(opened, timeout=timeout, base_url=api_url, proxy=proxy)


async def _unsuccessful(answer: aiohttp.ClientResponse) -> Answer:
    """Status, code and sentence; the status alone where the body does not arrive or is no JSON."""
    error = await error_fields(answer)
    code = text_of(error, "error_code")
    sentences = (text_of(error, name) for name in ("error_description", "error", "detail", "title", "message"))
    return Answer(
        status=answer.status,
        code=code,
        message=next(filter(None, sentences), ""),
        retry_after=retry_after(answer.headers.get("Retry-After"), datetime.now(UTC)),
    )


def _named(error: BaseException) -> str:
    return scrub(f"{type(error).__name__}: {error}")
