"""Erases a person from every table: at once, or by the clock where a tenant asks for it. The event has only an id."""

from datetime import datetime, timedelta
from typing import Final

from shared import database
from shared.database import Connection, Pool
from shared.domain.person_pattern import pattern
from shared.store import contact_records, erasure, erasure_requests
from shared.store.contact_records import ContactRecord
from shared.store.erasure import Person
from shared.store.events import Event, record
from shared.store.webhook_deliveries import erased

MATCHED_LATE: Final = timedelta(hours=1)  # a delivery bears its event's time, and matching may be behind


async def request(connection: Connection, contact: ContactRecord) -> datetime:
    """Have a contact erased by the clock, and hide it until then; returns when that was asked for first.

    Raises NothingToSearch where the contact has no address by which its traces could be found.
    """
    person = await erasure.person(connection, contact.tenant_id, contact.id)
    pattern(person.addresses)
    requested_at, is_new = await erasure_requests.add(connection, contact.tenant_id, contact.id)
    if is_new:
        await contact_records.delete(connection, contact.tenant_id, contact.id)
        await record(connection, Event("contact.erasure_requested", contact.tenant_id, contact_id=contact.id))
    return requested_at


async def erase(pool: Pool, person: Person) -> dict[str, int]:
    """Erase in one transaction, as palomar_worker; returns by table how many rows were removed or blanked.

    Deliveries to webhooks that were made while the search ran are emptied right after it.

    Raises NothingToSearch.
    """
    searched = pattern(person.addresses)
    found = await erasure.mentions(pool, person, searched)

    async def once() -> dict[str, int]:
        async with pool.acquire() as connection, connection.transaction():
            done = await erasure.erase(connection, person, searched, found)
            await record(connection, Event("contact.erased", person.tenant_id, contact_id=person.contact_id))
            return done

    async def later() -> int:
        since = found.searched_at - MATCHED_LATE
        return await erased.empty_later_ones(pool, person.tenant_id, found.known_by, found.conversations, since)

    done = await database.repeat(once)
    return {**done, "webhook_logs": done["webhook_logs"] + await database.repeat(later)}
