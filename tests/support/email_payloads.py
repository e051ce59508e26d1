"""Inbound-parse webhooks as SendGrid documents them; names, addresses and ids are ours."""

import json
from collections.abc import Mapping
from uuid import UUID

from shared.domain.model import InboundMessage
from shared.providers.base import RawWebhook
from shared.providers.email.webhooks import parse

OWN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")  # a message of ours
OWN_ID = f"<palomar.{OWN}@shop.example>"
BOUNDARY = "xYzZY"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
OURS = "hola@shop.example"
ENVELOPE = json.dumps({"to": [OURS], "from": "ana@example.com"})
HEADERS = "Message-ID: <m1@example.com>\nDate: Thu, 01 Jan 2026 10:00:00 +0100\n"

File = tuple[str, str, bytes]  # filename, content type, content


def form(fields: Mapping[str, str | bytes | File | None]) -> bytes:
    """A multipart body; None leaves a field out."""
    parts = []
    for name, value in fields.items():
        if value is None:
            continue
        about = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(value, tuple):
            filename, kind, content = value
            about += f'; filename="{filename}"\r\nContent-Type: {kind}'
        else:
            content = value.encode() if isinstance(value, str) else value
        parts.append(f"--{BOUNDARY}\r\n{about}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def fields(**changed: str | bytes | File | None) -> dict[str, str | bytes | File | None]:
    """A customer's mail, parsed by the service. `sender` is the field `from`, `_` stands for `-`."""
    named = {name.replace("_", "-") if name != "spam_score" else name: value for name, value in changed.items()}
    if "sender" in named:
        named["from"] = named.pop("sender")
    whole: dict[str, str | bytes | File | None] = {
        "headers": HEADERS,
        "from": "Ana Pérez <Ana@Example.com>",
        "to": f"Tienda <{OURS}>",
        "subject": "Precio",
        "text": "¿Cuánto cuesta?",
        "envelope": ENVELOPE,
        "charsets": json.dumps({"from": "UTF-8", "to": "UTF-8", "subject": "UTF-8", "text": "UTF-8"}),
        "SPF": "pass",
        "spam_score": "0.1",
    }
    return {**whole, **named}


def raw(body: bytes, content_type: str = CONTENT_TYPE) -> RawWebhook:
    return RawWebhook("POST", "https://x.example/webhooks/email/1", content_type, {}, body)


def said(**changed: str | bytes | File | None) -> RawWebhook:
    return raw(form(fields(**changed)))


def whole(mail: str | bytes, **changed: str | bytes | File | None) -> RawWebhook:
    """The raw form: the whole mail in one field."""
    return raw(form({"email": mail, "envelope": ENVELOPE, "SPF": "pass", **changed}))


# A mail of ours that came back, in the forms that a service has.
REPORT = (
    "Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; ana@example.com\r\nAction: failed\r\n"
    "Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such\r\n user here\r\n"
)
REPORTED = HEADERS + 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n'
BOUNCED = {
    "parsed": said(
        headers=REPORTED, sender="Mail Delivery System <mailer-daemon@mx.example>", text="It was not delivered.",
        attachment1=("", "message/delivery-status", REPORT.encode()),
        attachment2=("", "text/rfc822-headers", f"Message-ID: {OWN_ID}\r\nSubject: x\r\n".encode()),
    ),
    "flattened": said(headers=REPORTED, text=f"{REPORT}\r\nMessage-ID: {OWN_ID}\r\n"),
    "whole": whole(
        f'From: mailer-daemon@mx.example\r\n{REPORTED.replace(chr(10), chr(13) + chr(10))}\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\n{REPORT}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: {OWN_ID}\r\nSubject: x\r\n\r\nhola\r\n--b--\r\n"
    ),
    "by its thread": said(headers=REPORTED + f"In-Reply-To: {OWN_ID}\n", text=REPORT),
}  # fmt: skip


def message(webhook: RawWebhook) -> InboundMessage:
    """The one message of a webhook that is read without an error."""
    parsed = parse(webhook)
    assert parsed.errors == ()
    (found,) = parsed.messages
    return found
