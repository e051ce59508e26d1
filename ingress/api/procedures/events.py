"""events.*: what happened, as a list to pull, as a stream, and which kinds there are."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ingress.api.call import Call
from ingress.api.declaration import Example, query, subscription
from ingress.api.live.engine import cursor_of, lost
from ingress.api.live.hub import PAGE
from ingress.api.live.items import Filter, Happened, Heartbeat, Reason, Reconnect, Started, TooSlow
from ingress.api.models import MOST_ROWS, Output, Part, TenantInput, Tracked
from ingress.api.problems import UNAVAILABLE, Problem
from shared import database
from shared.domain import event_cursor, public_events
from shared.domain.event_cursor import Cursor
from shared.domain.event_json import cursor_at, event_json
from shared.store import event_feed as feed
from shared.store.event_feed import Order, StoredEvent

READ: Final = "events:read"
NOW: Final = "now"
MOST_READ: Final = 1000  # events that one call reads where its filter wants little of what happened
MOST_NAMED: Final = 100  # values of one filter
AGAIN: Final = (0.5, 1.5)  # seconds, at random, after which a stream that an outage cut is tried again


def _is_event(given: str) -> str:
    if given not in public_events.NAMES:
        raise PydanticCustomError("event", "There is no such event", {"remedy": "events.types lists the names."})
    return given


EventName = Annotated[str, StringConstraints(max_length=64), AfterValidator(_is_event)]
CursorText = Annotated[str, StringConstraints(min_length=1, max_length=event_cursor.LENGTH)]
_EVENT: Final[dict[str, Any]] = {
    **next(one for one in public_events.EVENTS if one.name == "message_status_changed").sample()
}
_REASONS: Final = (
    "null, or why `recovered` is false. too_old: what you missed is not stored any more. too_many: it is too much. "
    "epoch: the database was restored, or is another one."
)
_DATA: Final = "Codes and numbers of this kind of event; events.types has the schema. New members may come."


class Event(Part):
    """Something that happened. It names rows; get them for what they hold now."""

    id: str = Field(description="Its place in the order: give it as `after` to go on behind it.")
    name: str = Field(description="events.types lists the names. New ones may come.")
    occurred_at: datetime
    tenant_id: UUID
    channel_id: UUID | None
    conversation_id: UUID | None
    message_id: UUID | None
    contact_id: UUID | None
    data: dict[str, str | int | float | bool | None] = Field(description=_DATA)


class EventType(Part):
    """A kind of event."""

    name: str
    description: str
    json_schema: dict[str, Any] = Field(description="JSON Schema of such an event.")
    sample: dict[str, Any]


class EventTypes(Output):
    event_types: list[EventType]


class EventPage(Output):
    """What happened behind `after`, in its order."""

    events: list[Event]
    cursor: str = Field(description="Give it as `after` next time, also where `events` is empty.")
    has_more: bool = Field(description="Whether to call again at once.")
    recovered: bool | None = Field(
        description="true: nothing behind `after` is left out. false: something may be; load anew what you show. null: "
        "there was no `after`."
    )
    reason: Reason | None = Field(description=_REASONS)


class LiveData(Part):
    """What an item of a stream says."""

    type: Literal["started", "event", "heartbeat"]
    event: Event | None = None
    recovered: bool | None = Field(
        default=None,
        description="Of the start. true: all that you missed follows. false: it can't; load anew what you show. null: "
        "there was nothing to go on behind.",
    )
    reason: Reason | None = Field(default=None, description=_REASONS)


class LiveItem(Tracked):
    """An item of a stream: its start, an event, or a heartbeat. A start may come again, where a stream was cut."""

    data: LiveData


class EventFilter(TenantInput):
    """Which events are wanted; what is left out does not matter."""

    names: Annotated[list[EventName], Field(max_length=MOST_NAMED)] | None = Field(
        default=None, description="Only events of these names."
    )
    channel_ids: Annotated[list[UUID], Field(max_length=MOST_NAMED)] | None = Field(
        default=None, description="Only events about these channels."
    )
    conversation_ids: Annotated[list[UUID], Field(max_length=MOST_NAMED)] | None = Field(
        default=None, description="Only events about these conversations."
    )

    def wanted(self) -> Filter:
        return Filter(_set(self.names), _set(self.channel_ids), _set(self.conversation_ids))


class ListEvents(EventFilter):
    after: CursorText | None = Field(
        default=None,
        description="The `cursor` of the page before, or any event's id. `now`: no events, but the present cursor. "
        "Left out: from the oldest event on that is stored for a day longer.",
    )
    limit: int = Field(default=50, ge=1, le=MOST_ROWS, description="The most events of the page.")


class FollowEvents(EventFilter):
    after: CursorText | None = Field(default=None, description="The `id` of the last item that you saw. Left out: now.")
    last_event_id: CursorText | None = Field(
        default=None, description="The same, as tRPC's clients and EventSource give it when they come again."
    )

    def cursor(self) -> Cursor | None:
        """The later one: a client that comes again repeats the input that it began with. Raises a Problem."""
        return cursor_of(self.last_event_id, "lastEventId") or cursor_of(self.after, "after")


class NoInput(TenantInput):
    """Nothing but the tenant."""


@query(
    "events.types",
    scope=READ,
    examples=[
        Example(
            {},
            {
                "eventTypes": [
                    {"name": one.name, "description": one.meaning, "jsonSchema": one.schema(), "sample": one.sample()}
                    for one in public_events.EVENTS[:1]
                ]
            },
        )
    ],
)
async def types(call: Call, given: NoInput) -> EventTypes:
    """List the kinds of events, each with its JSON Schema and a sample."""
    return EventTypes(
        event_types=[
            EventType(name=one.name, description=one.meaning, json_schema=one.schema(), sample=one.sample())
            for one in public_events.EVENTS
        ]
    )


@query(
    "events.list",
    scope=READ,
    examples=[
        Example(
            {"limit": 1},
            {"events": [_EVENT], "cursor": _EVENT["id"], "hasMore": False, "recovered": None, "reason": None},
        )
    ],
)
async def list_(call: Call, given: ListEvents) -> EventPage:
    """List what happened behind a cursor, in its order: a feed to pull, with no socket.

    First get the present cursor with `after=now`, then load what you show, then follow from the cursor: nothing falls
    between. The same cursors serve /v1/live and events.live.
    """
    wanted = given.wanted()
    order = await call.live.order(call.connection)
    if given.after == NOW:
        return _page([], order.end, recovered=None)
    after = cursor_of(given.after, "after")
    if after is None:
        place = await feed.place_before(call.connection, call.tenant_id, order.first_day)
        after = None if place is None else Cursor(order.identity, order.first_day, place)
        return _page([], order.end, recovered=None) if after is None else await _read(call, order, after, wanted, given)
    if (reason := lost(after, order)) is not None:
        return _page([], order.end, recovered=False, reason=reason)
    return await _read(call, order, after, wanted, given)


@subscription(
    "events.live", scope=READ, examples=[Example({}, {"id": _EVENT["id"], "data": {"type": "event", "event": _EVENT}})]
)
async def live(call: Call, given: FollowEvents) -> AsyncIterator[LiveItem]:
    """Follow what happens, as it happens. /v1/live has the same items over a WebSocket, or as server-sent events.

    The first item says whether all that happened behind `after` follows (`recovered`). Where it does not, load anew
    what you show. Each item has an `id`: give it as `after` when you come again, and nothing is left out or comes
    twice. Heartbeats move it on while nothing happens that you want.
    """
    wanted, cursor, began = given.wanted(), given.cursor(), False
    while True:  # a stream that was cut, as its client took long, goes on with what the table has
        try:
            async with aclosing(call.live.follow(call.tenant_id, call.transaction, wanted, cursor).items()) as items:
                async for item in items:
                    if isinstance(item, Reconnect | TooSlow):
                        break
                    if not (began and isinstance(item, Started) and item.recovered):
                        yield _live_item(item)
                    began, cursor = True, item.at
        except Exception as error:  # an error would end the subscription for good: tRPC's clients don't try again
            if not (began and _passes(error)):
                raise
            await asyncio.sleep(random.uniform(*AGAIN))


def _passes(error: Exception) -> bool:
    """Whether it may go on once the database answers again, or other streams have ended."""
    return database.is_outage(error) or (isinstance(error, Problem) and error.type is UNAVAILABLE)


async def _read(call: Call, order: Order, after: Cursor, wanted: Filter, given: ListEvents) -> EventPage:
    """A page of wanted events. It ends early where the filter wants little of what happened: `hasMore`, then."""
    recovered = None if given.after is None else True
    found: list[Event] = []
    at = after
    at_once = given.limit if wanted == Filter() else PAGE
    for _ in range(MOST_READ // PAGE):
        rows = await feed.of_tenant(call.connection, call.tenant_id, at.place, order.horizon, at_once)
        for row in rows:
            at = cursor_at(order.identity, row)
            if wanted.wants(row):
                found.append(_event(at, row))
                if len(found) == given.limit:
                    return _page(found, at, recovered=recovered, has_more=True)
        if len(rows) < at_once:
            return _page(found, max((at, order.end), key=lambda one: one.place), recovered=recovered)
    return _page(found, at, recovered=recovered, has_more=True)


def _page(
    events: list[Event], at: Cursor, *, recovered: bool | None, reason: Reason | None = None, has_more: bool = False
) -> EventPage:
    return EventPage(events=events, cursor=str(at), has_more=has_more, recovered=recovered, reason=reason)


def _event(at: Cursor, stored: StoredEvent) -> Event:
    return Event.model_validate(event_json(at, stored))


def _live_item(item: Started | Happened | Heartbeat) -> LiveItem:
    match item:
        case Started(at, recovered, reason):
            data = LiveData(type="started", recovered=recovered, reason=reason)
        case Happened(at, event):
            data = LiveData(type="event", event=Event.model_validate(event))
        case Heartbeat(at):
            data = LiveData(type="heartbeat")
    return LiveItem(id=str(at), data=data)


def _set(values: list[Any] | None) -> frozenset[Any] | None:
    return None if values is None else frozenset(values)
