"""Row 6: calls of the management API a second, over REST with a key, from 32 connections at once.

The floor (floor_api.py) is an aiohttp handler with the same SQL and json.dumps, which checks nothing. Both answer the
same requests of the same load generator, on one database, with as many connections to it, and publish to one broker.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from ops.demo.twilio import DEMO
from ops.errors import Problem
from shared import database
from shared.actions import api_keys
from shared.settings import Settings
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result, percentile

ROW: Final = "api"
POOL: Final = 10  # connections to the database, of each side
CONNECTIONS: Final = 32
CONTACTS: Final = 10_000
CALLS: Final = {"contacts.get": 6_000, "contacts.list": 1_500, "conversations.send": 2_000}  # a round
CONVERSATIONS: Final = 2_000  # that are sent to in turn
BODIES: Final = {
    "conversations.send": '{"content": "Good morning. Your order has left us, and should arrive by tomorrow."}'
}
SCOPES: Final = ["contacts:read", "conversations:write"]
PAGE: Final = 50  # contacts
FASTEST: Final = Goal("at least", 0.6)
SLOWEST: Final = Goal("at most", 1.7)  # of the p99: as many calls wait for fewer answers a second
_CONTACTS: Final = """
INSERT INTO contacts (id, tenant_id, phone_number, name, is_active)
SELECT gen_random_uuid(), $1, '+3460' || lpad(n::text, 7, '0'), 'Name ' || n, true FROM generate_series(1, $2) n
RETURNING id
"""
_CONVERSATIONS: Final = """
INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, phone, last_user_message_at)
SELECT gen_random_uuid(), $1, $2, 'twilio', made.address, made.address, made.address, now()
FROM generate_series(1, $3) AS n, LATERAL (SELECT '+3461' || lpad(n::text, 7, '0') AS address) AS made
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One side in one round, for one procedure."""

    rate: float  # calls a second
    p50: float  # ms
    p99: float


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a call was refused."""
    url = arena.database("api")
    key, contacts, conversations = await _prepare(arena.settings(database_url=url))
    paths = {
        "contacts.get": _paths(arena, "get", [f"/v1/contacts/{one}" for one in contacts]),
        "contacts.list": _paths(arena, "list", [f"/v1/contacts?limit={PAGE}"]),
        "conversations.send": _paths(arena, "send", [f"/v1/conversations/{one}/send" for one in conversations]),
    }
    variables = {
        "AMQP_URL": arena.vhost("api"),
        "DATABASE_URL": url,
        "PALOMAR_API_POOL": str(POOL),
        "PALOMAR_API_RATE_LIMIT": "1000000000",
    }
    floor = arena.spawn("floor-api", ["-m", "tests.bench.floor_api", str(DEMO.tenant_id)], variables, serves=True)
    ours = arena.spawn("api", ["-m", "ingress", "api"], variables, serves=True)
    await arena.ready(floor, ours)
    seen: dict[str, dict[str, list[Round]]] = {name: {"floor": [], "ours": []} for name in CALLS}
    for number in range(rounds + 1):
        for name, count in CALLS.items():
            for side, target in (("floor", floor), ("ours", ours)):
                one = await _round(arena, target, key, paths[name], count if number else count // 5, BODIES.get(name))
                if number:  # the first was to warm up
                    seen[name][side].append(one)
        arena.check(floor, ours)
        advance()
    result = Result(
        ROW,
        f"{', '.join(f'{count} {name}' for name, count in CALLS.items())} a round over {CONNECTIONS} kept connections, "
        f"each writing the next as soon as the last is answered; {CONTACTS} contacts, pages of {PAGE}. The floor: "
        "aiohttp, asyncpg, json.dumps; the same statements in a transaction of the tenant, one after the other; it "
        "waits until the broker has confirmed a send's job. It knows no key, limit, model or version.",
        [figure for name, sides in seen.items() for figure in _figures(name, sides["floor"], sides["ours"])],
        [Peak(ROW, floor.name, floor.peak(), ours=False), Peak(ROW, ours.name, ours.peak())],
        {"p50_ms": {name: {side: [r.p50 for r in of] for side, of in sides.items()} for name, sides in seen.items()}},
    )
    arena.end(floor, ours)
    return result


def _figures(name: str, floor: list[Round], ours: list[Round]) -> list[Measure]:
    return [
        Measure(ROW, name, "/s", FASTEST, [r.rate for r in floor], [r.rate for r in ours]),
        Measure(ROW, f"{name}, p99", "ms", SLOWEST, [r.p99 for r in floor], [r.p99 for r in ours]),
    ]


async def _prepare(settings: Settings) -> tuple[str, list[UUID], list[UUID]]:
    """A key of the demo tenant, the ids of contacts of its, and of conversations."""
    connection = await database.connect(settings, process="bench")
    try:
        contacts = await connection.fetch(_CONTACTS, DEMO.tenant_id, CONTACTS)
        conversations = await connection.fetch(_CONVERSATIONS, DEMO.tenant_id, DEMO.channel_id, CONVERSATIONS)
        async with connection.transaction():
            key = await api_keys.create(connection, DEMO.tenant_id, "bench", SCOPES)
        await connection.execute("ANALYZE contacts, conversations")
    finally:
        await connection.close()
    return key.key, [row["id"] for row in contacts], [row["id"] for row in conversations]


def _paths(arena: Arena, name: str, paths: list[str]) -> Path:
    file = arena.folder / f"paths-{name}"
    file.write_text("\n".join(paths))
    return file


async def _round(arena: Arena, target: Process, key: str, paths: Path, count: int, body: str | None) -> Round:
    arguments = [target.url, key, str(paths), str(count), "FILE", "--connections", str(CONNECTIONS)]
    if body is not None:
        arguments += ["--post", body]
    answer = await arena.result("load-api", "load_api", arguments, {})
    sent: list[tuple[float, float, int]] = answer["sent"]
    refused = {status for *_, status in sent if status != 200}
    if refused or answer["lost"] or len(sent) != count:
        raise Problem(
            f"{target.name} answered {len(sent)} of {count}, with {sorted(refused) or 'nothing but 200'}; "
            f"{answer['lost']} connections were lost.",
            f"Its log is {target.log}.",
        )
    began, ended = min(started for started, _, _ in sent), max(answered for _, answered, _ in sent)
    waits = [(answered - started) * 1000 for started, answered, _ in sent]
    return Round(count / (ended - began), percentile(waits, 0.5), percentile(waits, 0.99))
