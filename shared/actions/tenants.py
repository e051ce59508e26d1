"""Creates a tenant, with the event in the same transaction."""

from uuid import UUID

from shared.database import Connection, new_id
from shared.store import tenants as store
from shared.store import turns
from shared.store.events import Event, record
from shared.store.tenants import Tenant


class NameTaken(Exception):
    """A living tenant has this name, by which commands find a tenant."""

    def __init__(self, tenant_id: UUID) -> None:
        super().__init__(f"tenant {tenant_id} has this name")
        self.tenant_id = tenant_id


async def create(connection: Connection, name: str) -> Tenant:
    """Create a tenant. Raises NameTaken."""
    await turns.take(connection, "names of tenants")
    other = await store.named(connection, name)
    if other is not None:
        raise NameTaken(other)
    made = await store.insert(connection, new_id(), name)
    await record(connection, Event("tenant.created", made.id))
    return made
