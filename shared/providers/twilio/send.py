"""Sends messages through Twilio: one call of the vendor's SDK, whose outcome is one class of the closed set.

`POST /2010-04-01/Accounts/{sid}/Messages.json`, https://www.twilio.com/docs/messaging/api/message-resource.
"""

import asyncio
import json
from datetime import datetime

from twilio.rest import Client
from twilio.rest.api.v2010.account.message import MessageInstance

from shared.domain import addresses
from shared.domain.model import ChannelKind, Outgoing
from shared.process.log import get_logger
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    SendResult,
    SentList,
    SentRecord,
    Unreachable,
)
from shared.providers.credentials import read_credentials
from shared.providers.http_outcomes import Answer, outcome_of, remedy_of
from shared.providers.template_values import never_empty, on_one_line
from shared.providers.twilio.client import CONNECT_TIMEOUT, Http, TwilioCredentials, UnsuccessfulError, named
from shared.providers.twilio.contents import refusal_of
from shared.providers.twilio.endpoint import RETRIES, STATUS
from shared.providers.twilio.errors import refusal

API_URL = "https://api.twilio.com"
_LISTED = 50  # some 100 kB
log = get_logger(__name__)


class TwilioSender:
    """A `base.Sender` of one account. Made inside a running loop, closed by its owner.

    `timeout` bounds one call in seconds, connecting included; `base_url` replaces api.twilio.com.
    """

    def __init__(
        self, credentials: TwilioCredentials, *, timeout: float, base_url: str = API_URL, proxy: str | None = None
    ) -> None:
        self._timeout = timeout
        self._http = Http(base_url, connect_timeout=min(CONNECT_TIMEOUT, timeout / 2), proxy=proxy)
        username, password = credentials.login()
        self._client = Client(username, password, credentials.account_sid, http_client=self._http)
        self._account_sid = credentials.account_sid

    async def send(self, message: Outgoing) -> SendResult:
        """One POST, never repeated here. Raises nothing but CancelledError, after which the outcome is unknown."""
        if message.channel_kind == "email":
            return ChannelBroken("channel_kind", "Twilio sends WhatsApp and SMS; this channel's kind is email")
        if (refused := refusal_of(message)) is not None:
            return refused
        created = await outcome_of(self._create(_parameters(message)), self._timeout, named)
        if isinstance(created, Answer):
            return refusal(created, message.recipient)
        if isinstance(created, Unreachable | Ambiguous):
            return created
        if not isinstance(created.sid, str) or not created.sid:
            return Ambiguous("unreadable", "accepted, but the answer names no sid")
        return Accepted(created.sid)

    async def find(self, message: Outgoing, since: datetime) -> SentList | None:
        """The messages to this recipient since then, however the number is written; None where Twilio does not answer.

        The list is filtered by To, From and date_created, because date_sent is empty while Twilio queues a message. Of
        each spelling the newest 50 are read. A user id's list is never complete: it may name the person by a number.
        """
        # A messaging service chooses the number itself. Otherwise a message from another number is not this one.
        ours = not message.sender.startswith("MG")
        sender = {"from_": _party(message.channel_kind, message.sender)} if ours else {}
        addressed = _spellings(message.channel_kind, message.recipient)
        if message.channel_kind == "sms" and not ours:  # the service may have chosen RCS, which no number sends
            addressed += [f"rcs:{one}" for one in addressed]
        by_number = addresses.phone(addresses.split_scheme(message.recipient)[1]) is not None
        try:
            async with asyncio.timeout(self._timeout):
                pages = [
                    await self._client.messages.list_async(to=to, **sender, limit=_LISTED, page_size=_LISTED)
                    for to in addressed
                ]
            return SentList(
                tuple(
                    SentRecord(item.sid, item.body or "", str(item.status), item.date_created)
                    for page in pages
                    for item in page
                    if item.direction != "inbound" and item.date_created >= since
                ),
                complete=by_number and all(len(page) < _LISTED or page[-1].date_created < since for page in pages),
            )
        except Exception as error:  # whatever went wrong, the outcome stays unknown
            log.warning("twilio list failed", error=type(error).__name__)
            return None

    async def check(self, address: str = "") -> str | None:
        """None where these credentials are those of an active account, else a sentence with the remedy."""
        try:
            async with asyncio.timeout(self._timeout):
                account = await self._client.api.accounts(self._account_sid).fetch_async()
        except UnsuccessfulError as unsuccessful:
            if unsuccessful.answer.status in (401, 403, 404):
                return "Twilio refuses the credentials: check account_sid and auth_token (or api_key and api_secret)"
            return f"Twilio answered {unsuccessful.answer.status}: try again later"
        except Exception as error:
            return remedy_of(error, "Twilio", named)
        if account.status != "active":
            return f"the Twilio account is {account.status}: reactivate it in Twilio's console"
        return None

    async def close(self) -> None:
        await self._http.close()

    async def _create(self, parameters: dict[str, object]) -> MessageInstance | Answer:
        try:
            return await self._client.messages.create_async(**parameters)
        except UnsuccessfulError as unsuccessful:
            return unsuccessful.answer


def make_sender(credentials: str, *, api_url: str, timeout: float, proxy: str | None = None) -> TwilioSender:
    """A sender for a channel's opened credentials, the JSON of TwilioCredentials. Made inside a running loop.

    Raises ValueError that names each wrong field, and none of their values.
    """
    opened = read_credentials(TwilioCredentials, credentials, "Twilio")
    return TwilioSender(opened, timeout=timeout, base_url=api_url, proxy=proxy)


def _parameters(message: Outgoing) -> dict[str, object]:
    """The arguments of the SDK's `messages.create_async`."""
    parameters: dict[str, object] = {"to": _party(message.channel_kind, message.recipient)}
    if message.sender.startswith("MG"):
        parameters["messaging_service_sid"] = message.sender
    else:
        parameters["from_"] = _party(message.channel_kind, message.sender)
    if message.template is not None:
        parameters["content_sid"] = message.template.name
        if message.template.variables:
            written = on_one_line if message.channel_kind == "whatsapp" else never_empty  # an SMS may have lines
            values = {name: written(value) for name, value in message.template.variables.items()}
            parameters["content_variables"] = json.dumps(values)
    else:
        if message.text:
            parameters["body"] = message.text
        if urls := [media.url for media in message.media if media.url]:
            parameters["media_url"] = urls
    if message.webhook_url is not None:  # `parse` reads our message's id again
        parameters["status_callback"] = f"{message.webhook_url}/{STATUS}?m={message.message_id}{RETRIES}"
    return parameters


def _party(kind: ChannelKind, address: str) -> str:
    """A number or user id as Twilio writes it on this kind of channel."""
    _, bare = addresses.split_scheme(address)
    number = addresses.phone(bare)
    if number is not None and number.canonical.startswith("+") and not bare.startswith("+"):
        bare = "+" + bare  # Meta and `WaId` leave the plus out
    return f"whatsapp:{bare}" if kind == "whatsapp" else bare


def _spellings(kind: ChannelKind, recipient: str) -> list[str]:
    """The ways in which Twilio may have written this recipient: as given, then as the number's country allows."""
    _, bare = addresses.split_scheme(recipient)
    number = addresses.phone(bare)
    ways = () if number is None or not number.canonical.startswith("+") else addresses.written_ways(number.canonical)
    return list(dict.fromkeys(_party(kind, one) for one in (recipient, *(f"+{way}" for way in sorted(ways)))))
