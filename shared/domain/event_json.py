"""An event as clients get it: over the API's feeds, and in the bodies of webhooks. No I/O."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic.alias_generators import to_camel

from shared.domain.event_cursor import Cursor, Place
from shared.domain.public_events import public_of

_SCALARS: Final = (str, int, float, bool, type(None))


class Recorded(Protocol):
    """A row of `events`. `detail` is what was recorded, which a tenant's SQL session may have done."""

    @property
    def place(self) -> Place: ...
    @property
    def name(self) -> str: ...
    @property
    def tenant_id(self) -> UUID: ...
    @property
    def channel_id(self) -> UUID | None: ...
    @property
    def conversation_id(self) -> UUID | None: ...
    @property
    def message_id(self) -> UUID | None: ...
    @property
    def contact_id(self) -> UUID | None: ...
    @property
    def detail(self) -> Any: ...
    @property
    def created_at(self) -> datetime: ...


def cursor_at(identity: bytes, recorded: Recorded) -> Cursor:
    """The place of an event in the order of this database: its id."""
    return Cursor(identity, recorded.created_at.astimezone(UTC).date(), recorded.place)


def event_json(at: Cursor, recorded: Recorded) -> dict[str, Any]:
    """The public event of a row, with values as JSON has them."""
    kind, added = public_of(recorded.name)
    detail = recorded.detail if isinstance(recorded.detail, dict) else {}
    facts = {_camel(name): value for name, value in detail.items() if isinstance(value, _SCALARS)}
    return {
        "id": str(at),
        "name": kind.name,
        "occurredAt": moment(recorded.created_at),
        "tenantId": str(recorded.tenant_id),
        "channelId": _text(recorded.channel_id),
        "conversationId": _text(recorded.conversation_id),
        "messageId": _text(recorded.message_id),
        "contactId": _text(recorded.contact_id),
        "data": {**facts, **added},
    }


def moment(at: datetime) -> str:
    """A time in UTC, as all JSON of ours has it: ISO 8601 with `Z`."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f"{at.isoformat()[:-6]}Z"


@lru_cache(maxsize=1024)
def _camel(name: str) -> str:
    """As to_camel, whose regular expressions take longer than the rest of an event."""
    return to_camel(name)


def _text(found: UUID | None) -> str | None:
    return None if found is None else str(found)
