"""A batch of events → deliveries: who wants which, in which form, and whose turn that makes it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast
from uuid import UUID

from shared.database import Connection
from shared.domain.event_cursor import Place
from shared.domain.event_json import cursor_at, event_json, moment
from shared.domain.public_events import public_of
from shared.domain.webhooks.bodies import encoded
from shared.domain.webhooks.delivery_id import delivery_id
from shared.domain.webhooks.matching import Direction, EventFacts, names, wants
from shared.domain.webhooks.rows import contact_json, message_json
from shared.store.event_feed import StoredEvent
from shared.store.messages.records import MessageRecord
from shared.store.webhook_deliveries import cursor, facts, matching
from shared.store.webhook_deliveries.facts import Key, Person, Wanting
from shared.store.webhook_deliveries.matching import Held, NewDelivery, State, Talk
from workers.webhook.straight import Noted, Straight

MOST_DELIVERIES: Final = 2000  # of one transaction, where it has more than one event
MOST_OF_TENANT: Final = 200  # of these; a tenant with more has its events matched apart
MOST_APART: Final = 200  # of a transaction for one that is matched apart: others' events wait for it


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in their order, without those of tenants that are matched apart."""

    identity: bytes  # of the database
    events: Sequence[StoredEvent]
    end: Place  # up to here there are no others
    apart: frozenset[UUID]  # tenants
    holder: UUID  # this process
    handoff: timedelta
    has_others: bool  # of other tenants, in it or behind it: these wait for it
    most: int = MOST_DELIVERIES


@dataclass(frozen=True, slots=True)
class Taken:
    """Up to where events are matched, and the webhooks whose turn it is, to be published after the commit."""

    place: Place
    due: Sequence[Key] = ()
    fell_behind: bool = False  # a tenant, whose events are matched apart from here on
    more: Sequence[Key] = ()  # webhooks that are held already, with something due


@dataclass(slots=True)
class _Matched:
    """An event with those that may want it, and what it is about."""

    event: StoredEvent
    name: str
    webhooks: list[Wanting]
    message: MessageRecord | None = None
    person: Person | None = None
    body: bytes = b""  # without a place in an order


class AlreadyThere(Exception):
    """A delivery whose first attempt was to be noted was written before, and is not this process's."""


async def match(tx: Connection, batch: Batch, straight: Straight, noted: Noted | None) -> Taken:
    """Write the deliveries of a batch, in the caller's transaction.

    `noted` gets the attempts that this process makes after the commit; None: it makes none straight. Raises
    AlreadyThere, after which the batch can be matched without.
    """
    events = [event for event in batch.events if event.tenant_id not in batch.apart]
    named, crowds, place = _within_bounds(batch, events, await _webhooks(tx, events))
    first = batch.events[0].place
    for tenant_id in crowds:
        await cursor.fall_behind(tx, tenant_id, (first[0], first[1] - 1))
    if not named:
        return Taken(place, fell_behind=bool(crowds))
    await _look_up(tx, named)
    for one in named:
        one.webhooks = [webhook for webhook in one.webhooks if wants(webhook.wants, _facts(one))]
    wanted = {webhook.key: webhook for one in named for webhook in one.webhooks}
    if not wanted:
        return Taken(place, fell_behind=bool(crowds))
    for one in named:  # before anything is locked
        if not all(webhook.in_order for webhook in one.webhooks):
            one.body = _body(batch, one, None)
    states = await matching.lock_health(tx, wanted, batch.holder, batch.handoff)
    deliveries = await _deliveries(tx, batch, named, states)
    taken: set[UUID] = set()
    if noted is not None:
        versions = {key: webhook.updated_at for key, webhook in wanted.items()}
        taken = await straight.note(tx, deliveries, states, versions, noted)
    written = await matching.insert(tx, deliveries, taken, straight.lease, moment(datetime.now(UTC)))
    if noted is not None:
        if noted.deliveries and len(written) < len(deliveries):
            raise AlreadyThere
        noted.bodies = written
    held = {key for key, state in states.items() if state.is_held} | (
        set(noted.claimed) if noted is not None else set()
    )
    pending = {(one.tenant_id, one.webhook_id) for one in deliveries if one.held is None and one.id not in taken}
    due = await _make_due(tx, batch, pending - held, states)
    return Taken(place, due, bool(crowds), tuple(pending & held))


async def locked(connection: Connection, events: Sequence[StoredEvent]) -> set[UUID]:
    """The tenants of these events that hold locks on their webhooks."""
    async with connection.transaction():
        webhooks = await facts.webhooks_of(connection, (event.tenant_id for event in events))
        return await matching.locked_tenants(connection, (webhook.key for webhook in webhooks))


async def _webhooks(tx: Connection, events: Sequence[StoredEvent]) -> Mapping[UUID, Sequence[Wanting]]:
    found: defaultdict[UUID, list[Wanting]] = defaultdict(list)
    if events:
        for webhook in await facts.webhooks_of(tx, {event.tenant_id for event in events}):
            found[webhook.tenant_id].append(webhook)
    return found


def _within_bounds(
    batch: Batch, events: Sequence[StoredEvent], webhooks: Mapping[UUID, Sequence[Wanting]]
) -> tuple[list[_Matched], set[UUID], Place]:
    """The events of one transaction, the tenants that go apart, and up to where that is all.

    A tenant with many deliveries goes apart, so that others' events don't wait for the writing of its own.
    """
    by_name: dict[tuple[UUID, str], list[Wanting]] = {}
    of_tenants: Counter[UUID] = Counter()
    crowds: set[UUID] = set()
    kept: list[_Matched] = []
    total, place = 0, batch.end
    for event, before in zip(events, (None, *events), strict=False):
        if event.tenant_id in crowds:
            continue
        name = public_of(event.name)[0].name
        key = event.tenant_id, name
        if key not in by_name:
            by_name[key] = [one for one in webhooks.get(event.tenant_id, ()) if names(one.wants.events, name)]
        matched = _Matched(event, name, [])
        matched.webhooks = [webhook for webhook in by_name[key] if _may_want(webhook, matched)]
        of_tenants[event.tenant_id] += len(matched.webhooks)
        total += len(matched.webhooks)
        if before is not None and total > batch.most:
            place = before.place
            break
        if batch.has_others and of_tenants[event.tenant_id] > MOST_OF_TENANT:
            crowds.add(event.tenant_id)
        kept.append(matched)
    return [one for one in kept if one.webhooks and one.event.tenant_id not in crowds], crowds, place


def _may_want(webhook: Wanting, one: _Matched) -> bool:
    """Whether the webhook wants the event as far as the event itself tells. Older ones are not for it."""
    if one.event.created_at < webhook.created_at:
        return False
    found = EventFacts(
        one.name,
        one.event.channel_id,
        webhook.wants.direction,
        webhook.wants.tags,
        _about(one.event),
    )
    return wants(webhook.wants, found)


async def _look_up(tx: Connection, named: Sequence[_Matched]) -> None:
    """Read the messages and contacts that the events are about."""
    messages = await facts.messages_of(
        tx, ((one.event.tenant_id, one.event.message_id) for one in named if one.event.message_id is not None)
    )
    asked = [
        (one.event.tenant_id, one.event.contact_id, one.event.conversation_id)
        for one in named
        if one.event.contact_id is not None or one.event.conversation_id is not None
    ]
    people = await facts.people_of(tx, asked)
    for one in named:
        event = one.event
        one.message = messages.get((event.tenant_id, event.message_id)) if event.message_id is not None else None
        one.person = people.get((event.tenant_id, event.contact_id, event.conversation_id))


def _facts(one: _Matched) -> EventFacts:
    direction: Direction | None = None
    if one.message is not None and one.message.direction in ("inbound", "outbound"):
        direction = cast(Direction, one.message.direction)
    return EventFacts(
        one.name,
        one.event.channel_id,
        direction,
        one.person.tags if one.person is not None else frozenset(),
        _about(one.event),
    )


def _about(event: StoredEvent) -> UUID | None:
    """The webhook that an event about a webhook is about."""
    detail = event.detail if isinstance(event.detail, dict) else {}
    try:
        return UUID(str(detail.get("webhook_id")))
    except ValueError:
        return None


async def _deliveries(
    tx: Connection, batch: Batch, named: Sequence[_Matched], states: Mapping[Key, State]
) -> list[NewDelivery]:
    """The rows to write, in the order of the events, with their places in the order of their conversations."""
    talks = Counter(talk for one in named for webhook in one.webhooks if (talk := _talk(webhook, one.event)))
    last = await matching.count(tx, talks)
    behind = await matching.have_someone_in_front(tx, talks)
    numbers = {talk: last[talk] - many for talk, many in talks.items()}
    deliveries = []
    for one in named:
        for webhook in one.webhooks:
            talk, sequence = _talk(webhook, one.event), None
            held: Held | None = "missed" if states[webhook.key].is_disabled else None
            if talk is not None:
                numbers[talk] += 1
                sequence = numbers[talk]
                if held is None:
                    held = "waiting" if talk in behind else None
                    behind.add(talk)
            deliveries.append(
                NewDelivery(
                    delivery_id(webhook.wants.webhook_id, batch.identity, one.event.place, one.event.created_at),
                    webhook.tenant_id,
                    webhook.wants.webhook_id,
                    one.name,
                    one.body if sequence is None and one.body else _body(batch, one, sequence),
                    one.event.created_at,
                    None if talk is None else talk[2],
                    sequence,
                    held,
                )
            )
    return deliveries


def _talk(webhook: Wanting, event: StoredEvent) -> Talk | None:
    if not webhook.in_order or event.conversation_id is None:
        return None
    return webhook.tenant_id, webhook.wants.webhook_id, event.conversation_id


def _body(batch: Batch, one: _Matched, sequence: int | None) -> bytes:
    event = one.event
    return encoded(
        event_json(cursor_at(batch.identity, event), event),
        None if one.message is None else message_json(one.message),
        None if one.person is None else contact_json(one.person.record),
        sequence,
    )


async def _make_due(tx: Connection, batch: Batch, free: Iterable[Key], states: Mapping[Key, State]) -> list[Key]:
    """Make the webhooks due that nobody holds; returns those whose job is to be published.

    Nothing is done for one that a process holds: it looks for more before it lets go.
    """
    due = [key for key in sorted(free) if states[key].open_until is None]
    later = [key for key in sorted(free) if states[key].open_until is not None]
    if due:
        await matching.make_due(tx, due, batch.handoff)
    if later:
        await matching.make_due_when_closed(tx, later)
    return due
