"""Writes mails as an inbound-parse service posts them: a customer's, and the report of one that came back."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import Message
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Final

import orjson

USER: Final = "sandbox"
PASSWORD: Final = "sandbox-smtp-password"
URL_SECRET: Final = "sandbox-url-secret"
ADDRESS: Final = "hola@palomar.example"

File = tuple[str, str, bytes]  # filename, content type, content


def new_message_id() -> str:
    return make_msgid(domain="customer.example")


def webhook(fields: Mapping[str, str | File]) -> tuple[bytes, str]:
    """The body of multipart/form-data and its Content-Type."""
    boundary = f"xYz{uuid.uuid4().hex}"
    parts = []
    for name, value in fields.items():
        about = f'Content-Disposition: form-data; name="{name}"'
        content = value.encode() if isinstance(value, str) else value[2]
        if not isinstance(value, str):
            about += f'; filename="{value[0]}"\r\nContent-Type: {value[1]}'
        parts.append(f"--{boundary}\r\n{about}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def customer_fields(
    *,
    sender: str,
    to: str,
    subject: str,
    text: str,
    html: str,
    message_id: str,
    headers: Mapping[str, str | None],
    files: Sequence[File] = (),
) -> dict[str, str | File]:
    """A customer's mail, parsed. `headers` changes the mail's; None takes one away."""
    shown: dict[str, str | None] = {
        "From": sender,
        "To": to,
        "Subject": subject,
        "Date": format_datetime(datetime.now(UTC)),
        "Message-ID": message_id,
        "MIME-Version": "1.0",
        **headers,
    }
    fields: dict[str, str | File] = {
        "headers": "".join(f"{name}: {value}\n" for name, value in shown.items() if value is not None),
        "from": sender,
        "to": to,
        "subject": subject,
        "envelope": orjson.dumps({"to": [parseaddr(to)[1]], "from": parseaddr(sender)[1]}).decode(),
        "charsets": orjson.dumps(dict.fromkeys(("from", "to", "subject", "text", "html"), "UTF-8")).decode(),
        "SPF": "pass",
        "attachments": str(len(files)),
    }
    for name, value in (("text", text), ("html", html)):
        if value:
            fields[name] = value
    return {**fields, **{f"attachment{number}": file for number, file in enumerate(files, start=1)}}


def bounce_fields(*, to: str, recipient: str, returned: Message, code: str, diagnostic: str) -> dict[str, str | File]:
    """The report (RFC 3464) of a mail that a server took and could not deliver."""
    report = (
        "Reporting-MTA: dns; mx.customer.example\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {code}\r\n"
        f"Diagnostic-Code: smtp; {diagnostic}\r\n"
    )
    kept = "".join(f"{name}: {value}\r\n" for name, value in returned.items())
    return customer_fields(
        sender="Mail Delivery System <MAILER-DAEMON@mx.customer.example>",
        to=to,
        subject="Undelivered Mail Returned to Sender",
        text="Your message could not be delivered.",
        html="",
        message_id=new_message_id(),
        headers={
            "Auto-Submitted": "auto-replied",
            "Content-Type": 'multipart/report; report-type=delivery-status; boundary="report"',
        },
        files=(
            ("", "message/delivery-status", report.encode()),
            ("", "text/rfc822-headers", kept.encode("utf-8", "replace")),
        ),
    ) | {"envelope": orjson.dumps({"to": [to], "from": ""}).decode()}
