"""The body of a webhook: `{type, timestamp, version, data}` as Standard Webhooks has it, below 20,000 bytes. No I/O.

`data` is the public event, and beside it the message and the contact that it is about, so that a system of the tenant's
need not call back. A body that would be larger is thin: it has the ids alone.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from shared.domain.public_events import CONTACT, MESSAGE, PublicEvent
from shared.domain.webhooks import rows

VERSION: Final = 1  # of this form; a change that existing systems can't read raises it
LARGEST: Final = 20_000  # bytes; Standard Webhooks asks for less

_SAMPLE_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d"  # as public_events has it for whatever a sample is about
_SAMPLE_TENANT: Final = "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d"
_SAMPLE_AT: Final = "2026-11-28T16:00:00Z"
SAMPLE_MESSAGE: Final[Mapping[str, Any]] = {
    "id": _SAMPLE_ID,
    "tenantId": _SAMPLE_TENANT,
    "conversationId": _SAMPLE_ID,
    "provider": "twilio",
    "channelId": _SAMPLE_ID,
    "direction": "inbound",
    "role": "user",
    "messageType": "text",
    "content": "Good morning. Is my order on its way?",
    "media": [],
    "template": None,
    "status": "received",
    "externalId": "SM00000000000000000000000000000001",
    "errorCode": None,
    "errorMessage": None,
    "metadata": {},
    "sentAt": None,
    "deliveredAt": None,
    "readAt": None,
    "createdAt": _SAMPLE_AT,
    "updatedAt": _SAMPLE_AT,
}
SAMPLE_CONTACT: Final[Mapping[str, Any]] = {
    "id": _SAMPLE_ID,
    "tenantId": _SAMPLE_TENANT,
    "phoneNumber": "+573001234567",
    "name": "Ana",
    "isActive": True,
    "createdAt": _SAMPLE_AT,
    "updatedAt": _SAMPLE_AT,
    "deletedAt": None,
}
_OUTGOING: Final = {
    "direction": "outbound",
    "role": "assistant",
    "content": "Good morning, Ana. It comes today.",
    "status": "delivered",
    "sentAt": _SAMPLE_AT,
    "deliveredAt": _SAMPLE_AT,
}
_OF_CUSTOMERS: Final = ("message_received", "media_updated")  # events about what a customer wrote


def body(
    event: Mapping[str, Any],
    message: Mapping[str, Any] | None = None,
    contact: Mapping[str, Any] | None = None,
    sequence: int | None = None,
) -> dict[str, Any]:
    """The body that tells of an event, less than LARGEST bytes.

    `event` is as event_json.py makes it, `message` and `contact` as rows.py does. `sequence` counts the deliveries of a
    conversation to a webhook that wants them in order.
    """
    return _body(event, message, contact, sequence)[0]


def encoded(
    event: Mapping[str, Any],
    message: Mapping[str, Any] | None = None,
    contact: Mapping[str, Any] | None = None,
    sequence: int | None = None,
) -> bytes:
    """The same as JSON."""
    return _body(event, message, contact, sequence)[1]


def schema(event: PublicEvent) -> dict[str, Any]:
    """The JSON Schema of the body that tells of such an event."""
    of_event = event.schema()
    about = {"message": _or_null(rows.MESSAGE), "contact": _or_null(rows.CONTACT)}
    data = {
        "type": "object",
        "properties": of_event["properties"] | about,
        "required": of_event["required"],
        "additionalProperties": False,
    }
    properties: dict[str, Any] = {
        "type": {"const": event.name},
        "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
        "version": {"const": VERSION},
        "sequence": {
            "type": "integer",
            "minimum": 1,
            "description": "Of its conversation, where the webhook wants them in order: a lower one that comes later "
            "was overtaken.",
        },
        "thin": {
            "const": True,
            "description": "The message and the contact would be too large: get them by their ids.",
        },
        "data": data,
    }
    return {
        "$schema": of_event["$schema"],
        "title": event.name,
        "description": event.meaning,
        "type": "object",
        "properties": properties,
        "required": ["type", "timestamp", "version", "data"],
        "additionalProperties": False,
    }


def sample(event: PublicEvent) -> dict[str, Any]:
    """A body that tells of such an event, as `webhooks.test` sends it."""
    message = SAMPLE_MESSAGE if event.name in _OF_CUSTOMERS else {**SAMPLE_MESSAGE, **_OUTGOING}
    return body(
        event.sample(), message if MESSAGE in event.about else None, SAMPLE_CONTACT if CONTACT in event.about else None
    )


def _envelope(
    event: Mapping[str, Any], sequence: int | None, data: dict[str, Any], *, thin: bool = False
) -> dict[str, Any]:
    found: dict[str, Any] = {"type": event["name"], "timestamp": event["occurredAt"], "version": VERSION}
    if sequence is not None:
        found["sequence"] = sequence
    if thin:
        found["thin"] = True
    return {**found, "data": data}


def _body(
    event: Mapping[str, Any],
    message: Mapping[str, Any] | None,
    contact: Mapping[str, Any] | None,
    sequence: int | None,
) -> tuple[dict[str, Any], bytes]:
    full = _envelope(event, sequence, {**event, "message": message, "contact": contact})
    if (text := _fitting(full)) is not None:
        return full, text
    thin = _envelope(event, sequence, dict(event), thin=True)
    if (text := _fitting(thin)) is not None:
        return thin, text
    thin = _envelope(event, sequence, {**event, "data": {}}, thin=True)
    return thin, orjson.dumps(thin)


def _fitting(found: Mapping[str, Any]) -> bytes | None:
    """The JSON of a body that is less than LARGEST, also as PostgreSQL writes it; None of another one.

    What is sent is the stored text, with blanks behind commas and colons.
    """
    try:
        text = orjson.dumps(found)
    except orjson.JSONEncodeError:  # a tenant's SQL session stored what is nested more deeply than JSON may be written
        return None
    if len(text) + text.count(b",") + text.count(b":") < LARGEST:
        return text
    fits = len(text) < LARGEST and len(json.dumps(found, ensure_ascii=False).encode()) < LARGEST
    return text if fits else None


def _or_null(members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {**rows.schema_of(members), "type": ["object", "null"]}
