"""Webhooks as Kommo documents them; ids, names and words are ours."""

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from shared.providers.base import RawWebhook

CHAT = "11111111-2222-4333-8444-555555555555"
CUSTOMER = "99999999-2222-4333-8444-555555555555"
MANAGER = "77777777-2222-4333-8444-555555555555"
SCOPE = "channel-1_account-1"
SECRET, OLD_SECRET = "the channel's secret", "the one before"
BASE = "https://palomar.example.com/webhooks/kommo/018f0000-0000-7000-8000-000000000000"
FORM = "application/x-www-form-urlencoded"

Json = dict[str, Any]


def said(**changed: str | None) -> dict[str, str]:
    """The fields of one of `message[add]`; `author__name` is `[author][name]`. None takes a field away."""
    fields: dict[str, str | None] = {
        "id": "m1",
        "chat_id": CHAT,
        "talk_id": "10",
        "contact_id": "20",
        "text": "hola",
        "created_at": "1767225600",
        "element_type": "2",
        "type": "incoming",
        "author__id": CUSTOMER,
        "author__type": "external",
        "author__name": "Ana",
        **changed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def written(**changed: str | None) -> dict[str, str]:
    """The fields of one of `outgoing_message[add]`."""
    fields: dict[str, str | None] = {
        "type": "outgoing",
        "author__id": MANAGER,
        "author__type": "internal",
        "author__name": "Eva",
        "recipient__id": CUSTOMER,
        "recipient__name": "Ana",
        **changed,
    }
    return said(**fields)


def added(group: str, *items: Mapping[str, str]) -> dict[str, str]:
    """`message[add][0][id]` and so on."""
    return {
        f"{group}[add][{number}]" + "".join(f"[{part}]" for part in name.split("__")): value
        for number, item in enumerate(items)
        for name, value in item.items()
    }


def form(*groups: Mapping[str, str]) -> bytes:
    account = {"account[id]": "12345", "account[subdomain]": "taller"}
    return urlencode([pair for group in (account, *groups) for pair in group.items()]).encode()


def chats(message: Json | None = None, **changed: Any) -> Json:
    """The Chats API's webhook of a manager's message. `message` goes over the innermost; None takes a field away."""
    now = 1767225600
    fields: Json = {
        "receiver": {"id": CUSTOMER, "name": "Ana", "phone": "5215512345678", "client_id": "ours-9"},
        "sender": {"id": MANAGER, "name": "Eva"},
        "conversation": {"id": CHAT, "client_id": "ours-1"},
        "source": {"external_id": "shop"},
        "timestamp": now,
        "msec_timestamp": now * 1000 + 250,
        "message": {"id": "m2", "type": "text", "text": "buenas", "media": "", "file_size": 0, **(message or {})},
        **changed,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return {"account_id": "account-1", "time": now, "message": given}


def action(name: str, **fields: Any) -> Json:
    data = {"user": {"id": MANAGER}, "conversation": {"id": CHAT, "client_id": "ours-1"}, **fields}
    return {"account_id": "account-1", "time": 1767225600, "action": {name: data}}


def crm(body: bytes, headers: Mapping[str, str] | None = None) -> RawWebhook:
    return RawWebhook("POST", BASE, FORM, headers or {}, body)


def chats_raw(root: object, *, secret: str = SECRET, path: str = f"/chats/{SCOPE}") -> RawWebhook:
    body = root if isinstance(root, bytes) else orjson.dumps(root)
    signature = hmac.new(secret.encode(), body, "sha1").hexdigest()
    return RawWebhook("POST", f"{BASE}{path}", "application/json", {"x-signature": signature}, body)
