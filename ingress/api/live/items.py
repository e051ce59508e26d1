"""What a stream of events consists of: its start, events, heartbeats and its end. Each has a cursor. No I/O."""

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import orjson

from shared.domain.event_cursor import Cursor, Place
from shared.domain.event_json import cursor_at, event_json
from shared.domain.public_events import public_of
from shared.store.event_feed import StoredEvent

Reason = Literal["too_old", "too_many", "epoch"]


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
        event = event_json(at, stored)
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
