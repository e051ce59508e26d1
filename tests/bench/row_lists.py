"""Row "lists": what a page of each list costs where a million contacts and ten million messages are stored.

The same calls go to `python -m ingress api` on a database with a thousand of each, by one client, one after the other:
the first page of a list, one in the middle, and the last one. PALOMAR_BENCH_CONTACTS and PALOMAR_BENCH_MESSAGES say
how many are stored.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from types import SimpleNamespace
from typing import Final, Literal, cast
from urllib.parse import urlencode

from pydantic import TypeAdapter

from ingress.api import cursors, query_string
from ingress.api.call import Call
from ingress.api.declaration import registry
from ingress.api.execute import validated
from ingress.api.models import PageInput
from ingress.api.rest_paths import route
from ops.demo.twilio import DEMO
from ops.errors import Problem
from shared import database
from shared.actions import api_keys
from shared.crypto import KeyRing
from shared.domain.event_cursor import Cursor
from shared.settings import Settings
from shared.store import event_feed
from shared.store.newest_first import Position
from tests.bench import stored_rows
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result
from tests.bench.load import Load
from tests.bench.load_api import requests
from tests.bench.stored_rows import Stored, id_of

ROW: Final = "lists"
FEW: Final = 1000  # contacts, and messages
CONTACTS: Final = int(os.environ.get("PALOMAR_BENCH_CONTACTS", "1000000"))
MESSAGES: Final = int(os.environ.get("PALOMAR_BENCH_MESSAGES", "10000000"))
LIMIT: Final = 20  # rows of a page
CALLS: Final = 20  # of each page at one time,
TURNS: Final = 3  # as often in a round
SCOPES: Final = ["contacts:read", "conversations:read", "messagesHistory:read", "events:read"]
_POSITION: Final = TypeAdapter(Position)
_EVENT: Final = "SELECT xid::text, seq FROM events e WHERE tenant_id = $1 ORDER BY e.xid, seq OFFSET $2 LIMIT 1"

Page = Literal["first", "middle", "last"]
PAGES: Final[tuple[Page, ...]] = ("first", "middle", "last")


@dataclass(frozen=True, slots=True, eq=False)
class List:
    """A list with filters. `table` has the rows by whose order it goes, each `every`-th of which it shows."""

    procedure: str
    table: str
    filters: Mapping[str, str] = field(default_factory=dict)
    every: int = 1
    at_most: float = 1.5  # times what it takes among few

    @property
    def name(self) -> str:
        return " ".join([self.procedure, *(f"{name}={value[:12]}" for name, value in self.filters.items())])


_FIRST: Final = str(id_of(1))  # of the contact and the conversation that have a tenth of all messages
_OTHER_CHANNEL: Final = str(stored_rows.OTHER_CHANNEL)
LISTS: Final = (
    List("contacts.list", "contacts"),
    List("contacts.list", "contacts", {"isActive": "true"}),
    List("contacts.list", "contacts", {"isActive": "false"}, every=20),
    List("contacts.list", "contacts", {"deleted": "true"}, every=20),
    List("contacts.search", "contacts", {"text": "ana"}),
    List("contacts.search", "contacts", {"text": "nobody"}),
    List("contacts.search", "contacts", {"text": "346 00"}),
    List("contacts.search", "contacts", {"text": "+34600000500"}),
    List("conversations.list", "conversations"),
    List("conversations.list", "conversations", {"provider": "meta"}),
    List("conversations.list", "conversations", {"channelId": _OTHER_CHANNEL}),
    List("conversations.list", "conversations", {"channelId": _FIRST}),
    List("conversations.list", "conversations", {"status": "escalated"}, every=20),
    List("conversations.list", "conversations", {"status": "active"}),
    List("conversations.list", "conversations", {"lastMessageSince": "2020-01-01T00:00:00Z"}),
    List("conversations.messages", "messages", {"id": _FIRST}, every=stored_rows.LONG),
    List("messagesHistory.list", "messages"),
    List("messagesHistory.list", "messages", {"contactId": _FIRST}, every=stored_rows.LONG),
    List("messagesHistory.list", "messages", {"direction": "inbound"}),
    List("messagesHistory.list", "messages", {"status": "failed"}, every=20),
    List("messagesHistory.list", "messages", {"status": "canceled"}),
    List("messagesHistory.list", "messages", {"status": "read"}),
    List("messagesHistory.list", "messages", {"whatsappInstanceId": _OTHER_CHANNEL}),
    List("messagesHistory.list", "messages", {"since": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z"}),
    List("messagesHistory.search", "messages", {"text": "HOLA"}),
    List("messagesHistory.search", "messages", {"text": "xyzzy"}),
    # Looks at 1,000 messages of those with the contact; among few there are but 100.
    List("messagesHistory.search", "messages", {"text": "xyzzy", "contactId": _FIRST}, stored_rows.LONG, at_most=5),
    List("messagesHistory.search", "messages", {"text": "hola", "direction": "outbound", "status": "failed"}, every=20),
    List("events.list", "events"),
    List("events.list", "events", {"names": "message_held"}, every=20),
    List("events.list", "events", {"conversationIds": str(id_of(10**9))}),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One database, and the process that serves it."""

    process: Process
    key: str
    stored: Stored
    places: Mapping[Page, Cursor]  # of its events
    keys: KeyRing  # which sign its cursors


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a call was refused."""
    started = time.monotonic()
    few = await _side(arena, "few", FEW, FEW)
    many = await _side(arena, "many", CONTACTS, MESSAGES)
    loading = time.monotonic() - started
    pages = [(one, page) for one in LISTS for page in PAGES]
    found: dict[tuple[List, Page], tuple[list[float], list[float]]] = {one: ([], []) for one in pages}
    for number in range(rounds + 1):
        for one, page in pages:
            taken: tuple[list[float], list[float]] = [], []
            for _ in range(TURNS):  # so that what else the machine does falls on both
                for side, calls in zip((few, many), taken, strict=True):
                    calls += await _calls(side, one, page)
            if number:  # the first was to warm up
                for figures, calls in zip(found[one, page], taken, strict=True):
                    figures.append(median(calls))
        arena.check(few.process, many.process)
        advance()
    result = Result(
        ROW,
        f"{CONTACTS:,} contacts, as many conversations and {MESSAGES:,} messages, made in {loading:.0f} s, against "
        f"{FEW:,} of each. The median of {TURNS * CALLS} calls, one at a time, pages of {LIMIT}.",
        [
            Measure(ROW, f"{one.name}, {page}", "ms", Goal("at most", one.at_most), *figures)
            for (one, page), figures in found.items()
        ],
        [Peak(ROW, side.process.name, side.process.peak()) for side in (few, many)],
    )
    arena.end(few.process, many.process)
    return result


async def _side(arena: Arena, name: str, contacts: int, messages: int) -> Side:
    url = arena.database(f"lists_{name}")
    admin = arena.stack.postgres.url("postgres", f"bench_lists_{name}")
    stored = await asyncio.to_thread(stored_rows.store, admin, contacts, messages)
    settings = arena.settings(database_url=url)
    key, places = await _key_and_places(settings, stored)
    variables = {
        "AMQP_URL": arena.vhost(f"lists-{name}"),
        "DATABASE_URL": url,
        "PALOMAR_API_RATE_LIMIT": "1000000000",
    }
    process = arena.spawn(f"api-{name}", ["-m", "ingress", "api"], variables, serves=True)
    await arena.ready(process)
    return Side(process, key, stored, places, KeyRing.parse(settings.secret_keys.get_secret_value()))


async def _key_and_places(settings: Settings, stored: Stored) -> tuple[str, Mapping[Page, Cursor]]:
    """A key of the tenant's, and places of its events behind which pages begin."""
    connection = await database.connect(settings, process="bench")
    try:
        async with connection.transaction():
            key = await api_keys.create(connection, DEMO.tenant_id, "bench", SCOPES)
        order = await event_feed.order(connection, settings.events_days)
        before: Mapping[Page, int] = {"first": 0, "middle": stored.events // 2, "last": stored.events - LIMIT}
        rows = {page: await connection.fetchrow(_EVENT, DEMO.tenant_id, before[page]) for page in PAGES}
    finally:
        await connection.close()
    day = order.today + timedelta(days=1)  # so that none is too old
    return key.key, {
        page: Cursor(order.identity, day, (int(row["xid"]), row["seq"])) for page, row in rows.items() if row
    }


async def _calls(side: Side, one: List, page: Page) -> list[float]:
    """Milliseconds of each call. Raises Problem."""
    path = _path(side, one, page)
    load = Load(side.process.url, requests(side.process.url, side.key, [path], CALLS, None))
    await load.closed(1)
    refused = {sent.status for sent in load.sent if sent.status != 200}
    if refused or load.lost:
        raise Problem(f"{one.name}, {page}: answered {refused or 'nothing'}.", f"Its log is {side.process.log}.")
    return [(sent.answered - sent.started) * 1000 for sent in load.sent]


def _path(side: Side, one: List, page: Page) -> str:
    procedure = registry()[one.procedure]
    found = route(procedure)
    assert found is not None, "a list is no subscription"
    filters = {name: value for name, value in one.filters.items() if name != found.id_field}
    if one.table == "events":
        filters["after"] = str(side.places[page])
    elif page != "first":
        rows = side.stored.rows(one.table)
        behind = rows // 2 if page == "middle" else min(LIMIT * one.every, rows // 2)
        given = validated(procedure, query_string.read(procedure.input, list(one.filters.items())))
        assert isinstance(given, PageInput), "a list has pages"
        call = cast(Call, SimpleNamespace(procedure=one.procedure, keys=side.keys))
        filters["cursor"] = cursors.behind(call, given, _POSITION, side.stored.position(one.table, behind))
    path = found.path.replace(f"{{{found.id_field}}}", one.filters.get(found.id_field or "", ""))
    return f"{path}?{urlencode({**filters, 'limit': LIMIT})}"
