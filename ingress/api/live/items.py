"""What a stream of events consists of: its start, events, heartbeats and its end. Each has a cursor. No I/O."""

from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from pydantic.alias_generators import to_camel

from shared.domain.event_cursor import Cursor, Place
from shared.domain.public_events import public_of
from shared.store.event_feed import StoredEvent

Reason = Literal["too_old", "too_many", "epoch"]

_SCALARS: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; None is any."""

    names: frozenset[str] | None = None
    channels: frozenset[UUID] | None = None
    conversations: frozenset[UUID] | None = None

    def wants(self, event: StoredEvent) -> bool:
        """An event that is about no channel or conversation is none of a named one."""
        return (
            (self.names is None or public_of(event.name)[0].name in self.names)
            and (self.channels is None or event.channel_id in self.channels)
            and (self.conversations is None or event.conversation_id in self.conversations)
        )


@dataclass(frozen=True, slots=True)
class Started:
    """The stream begins. `recovered` is None where it had no cursor to go on behind."""

    at: Cursor
    recovered: bool | None
    reason: Reason | None = None  # why not: the client loads anew what it shows

    def json(self) -> bytes:
        found = {"type": "started", "id": str(self.at), "recovered": self.recovered, "reason": self.reason}
        return orjson.dumps(found)


@dataclass(frozen=True, slots=True)
class Happened:
    """An event. Its JSON is made once in a process, whichever number of streams it goes to."""

    at: Cursor
    event: dict[str, Any]
    body: bytes = field(repr=False)
    recorded_at: float | None = None  # Unix time; of one that has just happened, for the last of those that get it

    @classmethod
    def of(cls, identity: bytes, stored: StoredEvent) -> "Happened":
        """The public event of a row."""
        at = cursor_at(identity, stored)
        event = public(at, stored)
        return cls(at, event, orjson.dumps({"type": "event", "id": event["id"], "event": event}))

    @property
    def place(self) -> Place:
        return self.at.place

    def json(self) -> bytes:
        return self.body


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened that is wanted; the cursor moves all the same, so that it never becomes too old."""

    at: Cursor

    def json(self) -> bytes:
        return orjson.dumps({"type": "heartbeat", "id": str(self.at)})


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The stream ends, and goes on in another one: after so long, so that not all come at once."""

    at: Cursor
    within_ms: int

    def json(self) -> bytes:
        return orjson.dumps({"type": "reconnect", "id": str(self.at), "withinMs": self.within_ms})


@dataclass(frozen=True, slots=True)
class TooSlow:
    """The stream ends: more waits for its client than its buffer holds. It goes on behind the cursor."""

    at: Cursor

    def json(self) -> bytes:
        return orjson.dumps({"type": "too_slow", "id": str(self.at)})


Item = Started | Happened | Heartbeat | Reconnect | TooSlow


def cursor_at(identity: bytes, stored: StoredEvent) -> Cursor:
    """The place of an event: its id."""
    return Cursor(identity, stored.created_at.astimezone(UTC).date(), stored.place)


def public(at: Cursor, stored: StoredEvent) -> dict[str, Any]:
    """An event as clients get it, with values as JSON has them."""
    kind, added = public_of(stored.name)
    detail = stored.detail if isinstance(stored.detail, dict) else {}  # a tenant's SQL session may record anything
    facts = {to_camel(name): value for name, value in detail.items() if isinstance(value, _SCALARS)}
    return {
        "id": str(at),
        "name": kind.name,
        "occurredAt": stored.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "tenantId": str(stored.tenant_id),
        "channelId": _text(stored.channel_id),
        "conversationId": _text(stored.conversation_id),
        "messageId": _text(stored.message_id),
        "contactId": _text(stored.contact_id),
        "data": {**facts, **added},
    }


def _text(found: UUID | None) -> str | None:
    return None if found is None else str(found)
