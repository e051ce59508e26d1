"""A message and a contact in the body of a webhook: with the members that the API shows, in the same form. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from pydantic.alias_generators import to_camel

from shared.domain.event_json import moment

_ID: Final[Mapping[str, Any]] = {"type": "string", "format": "uuid"}
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_TEXT_OR_NULL: Final[Mapping[str, Any]] = {"type": ["string", "null"]}
_TIME: Final[Mapping[str, Any]] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Mapping[str, Any]] = {"type": ["string", "null"], "format": "date-time"}
_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}

# Member of the record → its JSON Schema.
MESSAGE: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": _ID,
    "tenant_id": _ID,
    "conversation_id": _ID,
    "provider": _TEXT,
    "channel_id": _ID,
    "direction": {"enum": ["inbound", "outbound"]},
    "role": {"enum": ["user", "assistant", "system"]},
    "message_type": _TEXT,
    "content": _TEXT,
    "media": {"type": "array", "items": _OBJECT},
    "template": {"type": ["object", "null"]},
    "status": _TEXT,
    "external_id": _TEXT_OR_NULL,
    "error_code": _TEXT_OR_NULL,
    "error_message": _TEXT_OR_NULL,
    "metadata": _OBJECT,
    "sent_at": _TIME_OR_NULL,
    "delivered_at": _TIME_OR_NULL,
    "read_at": _TIME_OR_NULL,
    "created_at": _TIME,
    "updated_at": _TIME,
}
CONTACT: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": _ID,
    "tenant_id": _ID,
    "phone_number": _TEXT_OR_NULL,
    "name": _TEXT_OR_NULL,
    "is_active": {"type": "boolean"},
    "created_at": _TIME,
    "updated_at": _TIME,
    "deleted_at": _TIME_OR_NULL,
}


def message_json(record: object) -> dict[str, Any]:
    """A row of `messages`, given with the names of MESSAGE as attributes.

    What a tenant wrote by SQL may hold anything where an object belongs: it is left out.
    """
    shown = _shown(record, _SHOWN_OF_MESSAGE)
    shown["media"] = [part for part in shown["media"] if isinstance(part, Mapping)]
    shown["metadata"] = shown["metadata"] if isinstance(shown["metadata"], Mapping) else {}
    shown["template"] = shown["template"] if isinstance(shown["template"], Mapping) else None
    return shown


def contact_json(record: object) -> dict[str, Any]:
    """A row of `contacts`, given with the names of CONTACT as attributes."""
    return _shown(record, _SHOWN_OF_CONTACT)


def schema_of(members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of MESSAGE or CONTACT. New members may come with a version of Palomar."""
    properties = {to_camel(name): dict(kind) for name, kind in members.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


# Made once: to_camel's regular expressions would be a third of the time that a body takes.
_SHOWN_OF_MESSAGE: Final = [to_camel(name) for name in MESSAGE], attrgetter(*MESSAGE)
_SHOWN_OF_CONTACT: Final = [to_camel(name) for name in CONTACT], attrgetter(*CONTACT)


def _shown(record: object, shown: tuple[Sequence[str], Callable[[object], Sequence[Any]]]) -> dict[str, Any]:
    names, values = shown
    return dict(zip(names, map(_value, values(record)), strict=True))


def _value(found: Any) -> Any:
    if found is None or isinstance(found, str):  # most of them
        return found
    if isinstance(found, UUID):
        return str(found)
    if isinstance(found, datetime):
        return moment(found)
    return list(found) if isinstance(found, tuple) else found
