"""Webhooks as Meta documents them; ids, names and numbers are ours."""

from collections.abc import Mapping
from typing import Any

import orjson

from shared.providers.base import Parsed, RawWebhook
from shared.providers.meta.webhooks import parse

PHONE_NUMBER_ID = "106540352242922"
OTHER_PHONE_NUMBER_ID = "106540352242999"
ACCOUNT = "102290129340398"
CUSTOMER = "5215512345678"
WAMID = "wamid.HBgNNTIxNTUxMjM0NTY3OBUCABIYAA=="

Json = dict[str, Any]


def said(**changed: Any) -> Json:
    """One of `messages`; None takes a field away."""
    fields = {"from": CUSTOMER, "id": WAMID, "timestamp": "1767225600", "type": "text", "text": {"body": "hola"}}
    return {name: value for name, value in {**fields, **changed}.items() if value is not None}


def of_type(kind: str, part: Any, **changed: Any) -> Json:
    """A message of another type than text."""
    return said(**{"text": None, "type": kind, kind: part, **changed})


def receipt_json(**changed: Any) -> Json:
    """One of `statuses`."""
    fields = {"id": WAMID, "status": "delivered", "timestamp": "1767225601", "recipient_id": CUSTOMER}
    return {name: value for name, value in {**fields, **changed}.items() if value is not None}


def value(
    *messages: Json, statuses: tuple[Json, ...] = (), phone_number_id: str = PHONE_NUMBER_ID, **more: Any
) -> Json:
    """The `value` of a change of field `messages`."""
    held: Json = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": phone_number_id},
    }
    if messages:
        held["contacts"] = [{"profile": {"name": "Ana"}, "wa_id": CUSTOMER}]
        held["messages"] = list(messages)
    if statuses:
        held["statuses"] = list(statuses)
    return {**held, **more}


def entry(*values: Json, field: str = "messages") -> Json:
    return {"id": ACCOUNT, "changes": [{"field": field, "value": one} for one in values]}


def body(*entries: Json) -> bytes:
    return orjson.dumps({"object": "whatsapp_business_account", "entry": list(entries)})


def raw(given: bytes, headers: Mapping[str, str] | None = None) -> RawWebhook:
    return RawWebhook("POST", "https://palomar.example.com/webhooks/meta/x", "application/json", headers or {}, given)


def read(*entries: Json) -> Parsed:
    """What we make of a webhook with these entries."""
    return parse(raw(body(*entries)))
