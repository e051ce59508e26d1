"""Creates, changes and deletes a group, and changes who is in it, each with its event in the same transaction."""

from collections.abc import Sequence
from uuid import UUID

from shared.database import Connection
from shared.store import groups as store
from shared.store.events import Event, record
from shared.store.groups import Group, GroupValues


async def create(connection: Connection, tenant_id: UUID, given: GroupValues) -> Group:
    """Create a group."""
    created = await store.insert(connection, tenant_id, given)
    await record(connection, _event("group.created", created))
    return created


async def update(connection: Connection, before: Group, given: GroupValues) -> Group:
    """Change a group whose row the caller has locked; without an event where nothing changes."""
    if given == GroupValues(before.name, before.description, before.is_active):
        return before
    after = await store.update(connection, before.tenant_id, before.id, given)
    await record(connection, _event("group.updated", after))
    return after


async def delete(connection: Connection, tenant_id: UUID, group_id: UUID) -> Group | None:
    """Delete a group softly. None where there is no live one."""
    deleted = await store.delete(connection, tenant_id, group_id)
    if deleted is not None:
        await record(connection, _event("group.deleted", deleted))
    return deleted


async def add_contacts(connection: Connection, group: Group, contact_ids: Sequence[UUID]) -> int:
    """Add contacts of the same tenant; returns how many were not in the group before."""
    added = await store.add_contacts(connection, group.tenant_id, group.id, contact_ids)
    if added:
        await record(connection, _event("group.updated", group, contacts_added=added))
    return added


async def remove_contacts(connection: Connection, group: Group, contact_ids: Sequence[UUID]) -> int:
    """Take contacts out; returns how many were in the group."""
    removed = await store.remove_contacts(connection, group.tenant_id, group.id, contact_ids)
    if removed:
        await record(connection, _event("group.updated", group, contacts_removed=removed))
    return removed


def _event(name: str, group: Group, **counts: int) -> Event:
    return Event(name, group.tenant_id, detail={"group_id": str(group.id), **counts})
