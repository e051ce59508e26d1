"""Row "import": contacts of a file that go in a second, through contacts.import over REST, and the API's memory.

The floor writes the same contacts, addresses and events by the same statements, 500 in a transaction, from values that
are in memory: it receives and reads no file, looks nothing up and notes no progress. PALOMAR_BENCH_CONTACTS says how
many contacts a round has.
"""

import os
import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from ops.demo.twilio import DEMO
from ops.errors import Problem
from shared import database
from shared.actions import api_keys
from shared.actions.contact_uploads import BATCH
from shared.database import ApiPool
from shared.domain.contact_files.merge import Draft
from shared.domain.model import Address
from shared.settings import Settings
from shared.store import contact_batches
from shared.store.events import Event, record
from tests.bench.arena import Arena, Process
from tests.bench.figures import Advance, Goal, Measure, Peak, Result

ROW: Final = "import"
CONTACTS: Final = int(os.environ.get("PALOMAR_BENCH_CONTACTS", "200000"))  # a round, of each side
FASTEST: Final = Goal("at least", 0.3)
_CHUNK: Final = 1_000  # lines that are sent together


async def measure(arena: Arena, rounds: int, advance: Advance) -> Result:
    """Raises Problem where a file did not go in whole."""
    url = arena.database("import")
    settings = arena.settings(database_url=url)
    key = await _key(settings)
    variables = {"AMQP_URL": arena.vhost("import"), "DATABASE_URL": url}
    ours = arena.spawn("api", ["-m", "ingress", "api"], variables, serves=True)
    await arena.ready(ours)
    rates: dict[str, list[float]] = {"floor": [], "ours": []}
    for number in range(rounds + 1):
        size = CONTACTS if number else CONTACTS // 10  # the first is to warm up
        first = 2 * number * CONTACTS
        floor_rate, our_rate = await _floor(settings, first, size), await _ours(ours, key, first + CONTACTS, size)
        if number:
            rates["floor"].append(floor_rate)
            rates["ours"].append(our_rate)
        arena.check(ours)
        advance()
    result = Result(
        ROW,
        f"{CONTACTS:,} new contacts a round, each with a phone number, a name and an e-mail address. One file of CSV, "
        "or for the floor one connection.",
        [Measure(ROW, "contacts", "/s", FASTEST, rates["floor"], rates["ours"])],
        [Peak(ROW, ours.name, ours.peak())],
    )
    arena.end(ours)
    return result


def _values(number: int) -> tuple[str, str, str]:
    """The phone number, name and e-mail address of a contact."""
    return f"+34{600_000_000 + number}", f"Person {number}", f"person{number}@example.com"


async def _key(settings: Settings) -> str:
    connection = await database.connect(settings, process="bench")
    try:
        async with connection.transaction():
            return (await api_keys.create(connection, DEMO.tenant_id, "bench", ["contacts:write"])).key
    finally:
        await connection.close()


async def _floor(settings: Settings, first: int, size: int) -> float:
    """Contacts a second."""
    async with ApiPool(settings, process="bench", size=1) as pool:
        began = time.perf_counter()
        for begin in range(first, first + size, BATCH):
            drafts = [_draft(number) for number in range(begin, min(begin + BATCH, first + size))]
            events = [Event("contact.created", DEMO.tenant_id, contact_id=one.id) for one in drafts]
            async with pool.tenant_transaction(DEMO.tenant_id) as connection:
                await contact_batches.write(connection, DEMO.tenant_id, drafts)
                await record(connection, *events)
        return size / (time.perf_counter() - began)


def _draft(number: int) -> Draft:
    phone, name, email = _values(number)
    new = [Address("phone", phone, phone), Address("email", email, email)]
    return Draft(database.new_id(), None, phone, name, new_addresses=new, is_wanted=True)


async def _ours(api: Process, key: str, first: int, size: int) -> float:
    """Contacts a second. Raises Problem."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        began = time.perf_counter()
        async with session.post(f"{api.url}/v1/contacts/import", data=_file(first, size), headers=headers) as answer:
            text = await answer.text()
            took = time.perf_counter() - began
            created = (await answer.json())["import"]["counts"]["created"] if answer.status == 200 else 0
    if created != size:
        raise Problem(f"{created} of {size} contacts went in: {answer.status} {text[:500]}", f"Its log is {api.log}.")
    return size / took


async def _file(first: int, size: int) -> AsyncIterator[bytes]:
    yield b"phoneNumber,name,email\n"
    for begin in range(first, first + size, _CHUNK):
        numbers = range(begin, min(begin + _CHUNK, first + size))
        yield "".join(f"{','.join(_values(number))}\n" for number in numbers).encode()
