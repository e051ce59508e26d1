"""Writes Kommo's webhooks, signatures and answers, and checks calls as Kommo does. No I/O.

Facts from Kommo's documentation: reference/send-import-messages, reference/connect-channel,
reference/receiving-chat-webhooks, docs/webhooks-general.
"""

import hashlib
import hmac
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

CHANNEL_ID = "5a0c9d53-6a6f-4d0c-9d53-000000000001"
ACCOUNT_ID = "5a0c9d53-6a6f-4d0c-9d53-000000000002"  # of the Chats API
SCOPE_ID = f"{CHANNEL_ID}_{ACCOUNT_ID}"
BOT_ID = "5a0c9d53-6a6f-4d0c-9d53-000000000003"
MANAGER_ID = "5a0c9d53-6a6f-4d0c-9d53-000000000004"
CHANNEL_SECRET = "9b" * 20  # of a channel that exists on this machine only
URL_SECRET = "4e" * 16
VALID_FOR = timedelta(minutes=15)

Json = dict[str, Any]


class Problem(NamedTuple):
    status: int
    code: int
    message: str


class Request(NamedTuple):
    """The parts of a send that matter here."""

    msgid: str
    chat_id: str
    kind: str
    body: str
    media: tuple[str, ...]


def new_id() -> str:
    return str(uuid.uuid4())


def chat_of(customer: str) -> str:
    """The chat of a customer, by their number: the same one each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"chat:{customer}"))


def person_of(chat_id: str) -> str:
    """The customer's own id in a chat."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"person:{chat_id}"))


# -- calls -------------------------------------------------------------------------------------------------------------


def signature_problem(method: str, path: str, headers: Mapping[str, str], body: bytes, secret: str) -> Problem | None:
    """Why the Chats API refuses a call's headers; None where they are right."""
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    if headers.get("Content-Type") != "application/json":
        return Problem(400, 400, "Content-Type must be application/json")
    if headers.get("Content-MD5") != digest:
        return Problem(403, 403, "Content-MD5 is not the body's")
    date = headers.get("Date", "")
    try:
        age = abs(datetime.now(UTC) - parsedate_to_datetime(date))
    except (TypeError, ValueError):
        return Problem(403, 403, "Date is not RFC 2822")
    if age > VALID_FOR:
        return Problem(403, 403, "Date is older than 15 minutes")
    text = "\n".join((method, digest, "application/json", date, path))
    if headers.get("X-Signature") != hmac.new(secret.encode(), text.encode(), "sha1").hexdigest():
        return Problem(403, 403, "Invalid signature")
    return None


def request_of(asked: object, bot_id: str) -> Request | Problem:
    """What a new_message asks for, or why Kommo refuses it."""
    payload = asked.get("payload") if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or asked.get("event_type") != "new_message" or not isinstance(payload, dict):
        return Problem(400, 400, "event_type: new_message with a payload is needed")
    for name in ("timestamp", "msec_timestamp", "msgid", "conversation_id", "sender", "message"):
        if not payload.get(name):
            return Problem(400, 400, f"payload.{name}: required")
    message, receiver = payload["message"], payload.get("receiver") or {}
    if receiver and payload["sender"].get("ref_id") != bot_id:
        return Problem(400, 400, "payload.sender.ref_id: an outgoing message needs a user's or the bot's id")
    if receiver and not (receiver.get("id") and receiver.get("name")):
        return Problem(400, 400, "payload.receiver: id and name are required")
    kind = message.get("type", "")
    if kind == "text" and not message.get("text"):
        return Problem(400, 400, "payload.message.text: required")
    if kind != "text" and not message.get("media"):
        return Problem(400, 400, "payload.message.media: required")
    chat_id = str(payload.get("conversation_ref_id") or payload["conversation_id"])
    media = (str(message["media"]),) if message.get("media") else ()
    return Request(str(payload["msgid"]), chat_id, kind, str(message.get("text", "")), media)


def error_body(code: int | str, message: str) -> Json:
    return {"error_code": code, "error_description": message}


# -- webhooks ----------------------------------------------------------------------------------------------------------


def crm_body(
    *, chat_id: str, text: str, outgoing: bool = False, author: str | None = None, author_type: str | None = None,
    name: str = "Customer", message_id: str | None = None, fields: Mapping[str, str | None] | None = None,
) -> bytes:  # fmt: skip
    """A CRM webhook with one message: a customer's, or one to them. `fields` changes its fields by their brackets
    (`[text]`, `[attachment][link]`); None takes one away."""
    group = "outgoing_message" if outgoing else "message"
    said: dict[str, str | None] = {
        "[id]": message_id or new_id(),
        "[chat_id]": chat_id,
        "[talk_id]": "100",
        "[contact_id]": "200",
        "[text]": text,
        "[created_at]": str(int(time.time())),
        "[message_type]": "text",
        "[element_type]": "2",
        "[element_id]": "300",
        "[type]": "outgoing" if outgoing else "incoming",
        "[author][id]": author or (MANAGER_ID if outgoing else person_of(chat_id)),
        "[author][type]": author_type or ("internal" if outgoing else "external"),
        "[author][name]": "Manager" if outgoing else name,
        "[origin]": "custom",
    }
    if outgoing:
        said |= {"[recipient][id]": person_of(chat_id), "[recipient][type]": "external", "[recipient][name]": name}
    said |= fields or {}
    account = {"account[id]": "12345", "account[subdomain]": "sandbox"}
    return urlencode(
        {**account, **{f"{group}[add][0]{key}": value for key, value in said.items() if value is not None}}
    ).encode()


def chats_message(
    *, chat_id: str, text: str, name: str = "Customer", message_id: str | None = None,
    message: Mapping[str, object] | None = None,
) -> Json:  # fmt: skip
    """A Chats API webhook: a manager's message to a customer. `message` goes over its fields."""
    now = time.time()
    said: Json = {
        "id": message_id or new_id(), "type": "text", "text": text, "markup": None, "tag": "", "media": "",
        "thumbnail": "", "file_name": "", "file_size": 0, **(message or {}),
    }  # fmt: skip
    return {
        "account_id": ACCOUNT_ID,
        "time": int(now),
        "message": {
            "receiver": {"id": person_of(chat_id), "name": name},
            "sender": {"id": MANAGER_ID, "name": "Manager"},
            "conversation": {"id": chat_id, "client_id": f"ours-{chat_id}"},
            "timestamp": int(now),
            "msec_timestamp": int(now * 1000),
            "message": said,
        },
    }


def chats_headers(body: bytes, secret: str) -> dict[str, str]:
    return {
        "X-Signature": hmac.new(secret.encode(), body, "sha1").hexdigest(),
        "Content-Type": "application/json",
        "User-Agent": "amoCRM-Chats-Webhook",
    }


CRM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "amoCRM-Webhooks/3.0"}
