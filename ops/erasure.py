"""Erases a person from every table, and searches for what is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from ops.errors import Problem
from shared import database
from shared.actions import erasure as erasing
from shared.domain import addresses
from shared.domain.person_pattern import NothingToSearch, pattern
from shared.store import channels, erasure
from shared.store.erasure import Person


@dataclass(frozen=True, slots=True)
class Erased:
    removed: Mapping[str, int]  # table → rows removed or blanked
    left: Mapping[str, int]  # table → rows in which a trace is found afterwards
    searched: tuple[str, ...]

    @property
    def gone(self) -> bool:
        return not any(self.left.values())


async def tenant(pool: database.Pool, named: str | None) -> UUID:
    """The tenant meant, by name or id; the only one where none is named. Raises Problem."""
    async with pool.acquire() as connection:
        every = await channels.tenants(connection)
    found = [tenant_id for tenant_id, name in every if named in (None, name, str(tenant_id))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{name} ({tenant_id})" for tenant_id, name in every) or "none"
    if named is None:
        raise Problem(
            "There are several tenants.", f"Add --tenant, or set PALOMAR_TENANT, with a name or id of: {names}."
        )
    raise Problem(f"{len(found) or 'No'} tenants are called {named!r}.", f"Give an id. There are: {names}.")


async def who(pool: database.Pool, tenant_id: UUID, named: str) -> Person:
    """The one contact that an id or an address names. Raises Problem."""
    try:
        contact_id = UUID(named)
    except ValueError:
        contact_id = None
    address = addresses.person(named)
    canonical = {named, named.strip().lower()} | ({address.canonical} if address is not None else set())
    found = await erasure.find(pool, tenant_id, contact_id, sorted(canonical), named)
    if len(found) != 1:
        raise Problem(
            f"{len(found) or 'No'} contacts of this tenant have the id or address {addresses.mask(named)}.",
            "Give the contact's id, or a phone number in international form, such as +14155238886.",
        )
    return await erasure.person(pool, tenant_id, found[0])


async def erase(pool: database.Pool, person: Person) -> Erased:
    """Erase, and search what is left. Raises Problem where nothing can be searched for."""
    try:
        searched = pattern(person.addresses)
    except NothingToSearch:
        raise Problem(
            "This contact has no address that can be searched for.",
            "Remove it by hand: its traces can't be proven gone.",
        ) from None
    removed = await erasing.erase(pool, person)
    left = await erasure.traces(pool, person.tenant_id, searched)
    return Erased(removed, left, tuple(sorted({address for _, address in person.addresses})))
