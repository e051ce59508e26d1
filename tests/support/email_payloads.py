"""Inbound-parse webhooks as SendGrid documents them; names, addresses and ids are ours."""

import json
from collections.abc import Mapping

from shared.providers.base import RawWebhook

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
