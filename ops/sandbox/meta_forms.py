"""Writes Meta's webhooks, signatures, answers and errors, and checks calls as Meta does. No I/O.

Facts from Meta's documentation: whatsapp/webhooks/reference/messages, whatsapp/support/error-codes, graph-api/webhooks.
"""

import hmac
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ops.sandbox.meta_parts import KINDS, Problem, said_in, wrong_in
from ops.sandbox.receipts import Planned
from ops.sandbox.record import SentMessage

ACCOUNT = "100000000000001"  # a WhatsApp business account
PHONE_NUMBER_ID = "100000000000002"
DISPLAY_NUMBER = "15550783881"
ACCESS_TOKEN = "EAA" + "5a" * 16  # of an app that exists on this machine only
APP_SECRET = "7e" * 16
VERIFY_TOKEN = "3c" * 16

_PHONE = re.compile(r"\+?[1-9]\d{6,14}", re.ASCII)
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,128}", re.ASCII)
_KNOWN_ERRORS = {
    2: "Service temporarily unavailable",
    100: "Invalid parameter",
    190: "Invalid OAuth access token",
    130429: "Rate limit hit",
    131026: "Message undeliverable",
    131047: "Re-engagement message",
    131049: "This message was not delivered to maintain healthy ecosystem engagement.",
    131050: "Unable to deliver the message: the recipient stopped marketing messages",
    131056: "Pair rate limit hit",
    132015: "Template is Paused",
    132016: "Template is Disabled",
    134100: "Only marketing messages supported",
}

Json = dict[str, Any]


class Request(NamedTuple):
    """The parts of a send that matter here."""

    to: str
    kind: str
    body: str
    media: tuple[str, ...]
    template: str | None
    details: str | None  # JSON of a template's components, or of what may be tapped
    opaque: str | None


def new_id() -> str:
    return f"wamid.{uuid.uuid4().hex}"


def sign(body: bytes, app_secret: str) -> str:
    """X-Hub-Signature-256 of a webhook."""
    return "sha256=" + hmac.new(app_secret.encode(), body, "sha256").hexdigest()


def webhook_headers(body: bytes, app_secret: str) -> dict[str, str]:
    return {
        "X-Hub-Signature-256": sign(body, app_secret),
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "Accept": "*/*",
    }


def inbound_body(
    *, sender: str, phone_number_id: str = PHONE_NUMBER_ID, account: str = ACCOUNT, text: str = "",
    message_id: str | None = None, profile_name: str | None = None, message: Mapping[str, object] | None = None,
) -> Json:  # fmt: skip
    """The webhook of a customer's message. `sender` is a number, or a business-scoped id that comes without one.

    `message` goes on top of everything in the message; a None in it takes the field away.
    """
    by_number = _PHONE.fullmatch(sender) is not None
    who = sender.removeprefix("+")
    item: Json = {
        ("from" if by_number else "from_user_id"): who,
        "id": message_id or new_id(),
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": text},
        **(message or {}),
    }
    contact = {"profile": {"name": profile_name or "Customer"}, ("wa_id" if by_number else "user_id"): who}
    said = {name: part for name, part in item.items() if part is not None}
    return _webhook(account, phone_number_id, {"contacts": [contact], "messages": [said]})


def statuses_body(account: str, phone_number_id: str, updates: Sequence[Json]) -> bytes:
    """The webhook of these `statuses` of a number's messages."""
    return orjson.dumps(_webhook(account, phone_number_id, {"statuses": updates}))


def status_update_of(message: SentMessage, step: Planned, opaque: str | None) -> Json:
    """One of `statuses`: a step of a message."""
    status_update: Json = {
        "id": message.sid,
        "status": "failed" if step.status == "undelivered" else step.status,
        "timestamp": str(int(time.time())),
        ("recipient_id" if _PHONE.fullmatch(message.to) else "recipient_user_id"): message.to.removeprefix("+"),
    }
    if step.error_code:
        known = error_message(int(step.error_code))
        details = {"details": step.error_message or known}
        status_update["errors"] = [
            {"code": int(step.error_code), "title": known, "message": known, "error_data": details}
        ]
    elif step.status in ("sent", "delivered"):
        status_update["pricing"] = _pricing(message.charged)
    if opaque is not None:
        status_update["biz_opaque_callback_data"] = opaque
    return status_update


def _pricing(category: str) -> Json:
    """What Meta says of a message's price; a message of this category without a template is free in the window."""
    free = category == "service"
    kind = "free_customer_service" if free else "regular"
    return {"billable": not free, "pricing_model": "PMP", "category": category, "type": kind}


def template_status_body(
    account: str, *, event: str, template_id: str, name: str, language: str, title: str | None
) -> bytes:
    """The webhook of a template's changed state."""
    value: Json = {
        "event": event,
        "message_template_id": int(template_id) if template_id.isdecimal() else template_id,
        "message_template_name": name,
        "message_template_language": language,
        "reason": "NONE",
    }
    if title is not None:
        value["other_info"] = {"title": title, "description": "Your WhatsApp message template has been paused."}
    change = {"value": value, "field": "message_template_status_update"}
    entry = {"id": account, "time": int(time.time()), "changes": [change]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})


def _webhook(account: str, phone_number_id: str, value: Json) -> Json:
    metadata = {"display_phone_number": DISPLAY_NUMBER, "phone_number_id": phone_number_id}
    change = {"value": {"messaging_product": "whatsapp", "metadata": metadata, **value}, "field": "messages"}
    return {"object": "whatsapp_business_account", "entry": [{"id": account, "changes": [change]}]}


def request_of(asked: object) -> Request | Problem:
    """What a send asks for, or why Meta refuses it."""
    if not isinstance(asked, dict) or asked.get("messaging_product") != "whatsapp":
        return Problem(400, 100, "(#100) The parameter messaging_product is required.")
    kind = str(asked.get("type") or "text")
    if kind not in KINDS:
        return Problem(400, 100, f"(#100) Param type must be one of {', '.join(KINDS)}")
    part = asked.get(kind)
    to = str(asked.get("to") or asked.get("recipient") or "")
    if not isinstance(part, dict):
        return Problem(400, 100, f"(#100) The parameter {kind} is required.")
    if not (_PHONE.fullmatch(to) if asked.get("to") else _USER_ID.fullmatch(to)):
        return Problem(400, 100, "(#100) Invalid parameter: to, or recipient")
    if wrong := wrong_in(kind, part):
        return wrong
    details = part.get({"interactive": "action", "template": "components"}.get(kind, ""))
    return Request(
        to=to,
        kind=kind,
        body=said_in(kind, part),
        media=tuple(str(part[name]) for name in ("link", "id") if part.get(name)),
        template=str(part["name"]) if kind == "template" else None,
        details=orjson.dumps(details).decode() if details is not None else None,
        opaque=str(asked["biz_opaque_callback_data"]) if asked.get("biz_opaque_callback_data") else None,
    )


def accepted(message: SentMessage, message_status: str | None) -> Json:
    """Meta's answer to a message it took; one with a template says whether it is held."""
    who = message.to.removeprefix("+")
    sent = {"id": message.sid, **({} if message_status is None else {"message_status": message_status})}
    contact = {"input": message.to, ("wa_id" if _PHONE.fullmatch(message.to) else "user_id"): who}
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [sent]}


def error_message(code: int) -> str:
    return _KNOWN_ERRORS.get(code, f"Error {code}")


def error_body(code: int | str, message: str, subcode: int | None = None) -> Json:
    """The Graph API's JSON of a refusal."""
    error: Json = {
        "message": message,
        "type": "OAuthException",
        "code": int(code) if str(code).isdigit() else code,
        "fbtrace_id": uuid.uuid4().hex[:16],
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": error}
