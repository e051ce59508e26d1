"""Creates, changes, deletes and restores a contact, each with its event in the same transaction."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from shared.database import Connection, new_id
from shared.domain import addresses
from shared.store import contact_records as store
from shared.store import erasure_requests
from shared.store.contact_records import ContactRecord
from shared.store.events import Event, record


class NumberTaken(Exception):
    """Another contact has this phone number: `contact_id`, or one that a concurrent transaction has just made."""

    def __init__(self, contact_id: UUID | None) -> None:
        super().__init__(f"another contact has this number: {contact_id or 'a new one'}")
        self.contact_id = contact_id


class ErasurePending(Exception):
    """The contact is about to be erased, which can't be undone."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of a contact's columns."""

    phone_number: str | None
    name: str | None
    is_active: bool


async def create(connection: Connection, tenant_id: UUID, given: Changes) -> ContactRecord:
    """Create a contact. A number that only a deleted contact has comes with its conversations and opt-outs.

    Raises NumberTaken.
    """
    await _check_free(connection, tenant_id, given.phone_number)
    try:
        created = await store.insert(connection, tenant_id, new_id(), given.phone_number, given.name, given.is_active)
    except asyncpg.UniqueViolationError:
        raise NumberTaken(None) from None
    await record(connection, Event("contact.created", tenant_id, contact_id=created.id))
    return created


async def update(connection: Connection, before: ContactRecord, given: Changes) -> ContactRecord:
    """Change a contact whose row the caller has locked; without an event where nothing changes. Raises NumberTaken."""
    if given == Changes(before.phone_number, before.name, before.is_active):
        return before
    if given.phone_number != before.phone_number:
        await _check_free(connection, before.tenant_id, given.phone_number, but=before.id)
    try:
        after = await store.update(
            connection, before.tenant_id, before.id, given.phone_number, given.name, given.is_active
        )
    except asyncpg.UniqueViolationError:
        raise NumberTaken(None) from None
    await record(connection, Event("contact.updated", before.tenant_id, contact_id=before.id))
    return after


async def delete(connection: Connection, tenant_id: UUID, contact_id: UUID) -> ContactRecord | None:
    """Delete a contact softly: their messages stay. None where there is no live one."""
    deleted = await store.delete(connection, tenant_id, contact_id)
    if deleted is not None:
        await record(connection, Event("contact.deleted", tenant_id, contact_id=contact_id))
    return deleted


async def restore(connection: Connection, tenant_id: UUID, contact_id: UUID) -> ContactRecord | None:
    """Undo a deletion. None where there is no deleted one. Raises NumberTaken where its number went to another one, and
    ErasurePending."""
    restored = await store.restore(connection, tenant_id, contact_id)
    if restored is not None:
        if await erasure_requests.is_pending(connection, tenant_id, contact_id):
            raise ErasurePending
        await _check_free(connection, tenant_id, restored.phone_number, but=contact_id)
        await record(connection, Event("contact.restored", tenant_id, contact_id=contact_id))
    return restored


async def _check_free(
    connection: Connection, tenant_id: UUID, phone_number: str | None, but: UUID | None = None
) -> None:
    """Raises NumberTaken where a live contact other than `but` has this number."""
    address = addresses.phone(phone_number) if phone_number is not None else None
    if address is None:
        return
    found = await store.holder(connection, tenant_id, address.canonical)
    if found is not None and found[1] and found[0] != but:
        raise NumberTaken(found[0])
