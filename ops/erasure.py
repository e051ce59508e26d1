"""Erases a person from every table, and searches for what is left."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

from ops.errors import Problem
from shared import database
from shared.domain import addresses
from shared.store import channels, erasure
from shared.store.erasure import Person
from shared.store.events import Event, record

SHORTEST_SEARCHED = 5  # characters; what is shorter would be found in everybody's rows
SHORTEST_SPACED = 8  # digits; so many are a number however people space them, fewer may be a price or a date

# Nothing before or after that would make it another number or word; the digits of a percent-escape are none of it.
_BEGINS = r"(?:(?<![{inside}])|(?<=%[0-9a-f]{{2}}))"
_ENDS = r"(?![{inside}])"
_SPACES = "(?:[ +()./-]|%2[089f]){0,3}"  # `+54 9 (342) 512-3456`, and in a form


@dataclass(frozen=True, slots=True)
class Erased:
    removed: Mapping[str, int]  # table → rows removed or blanked
    left: Mapping[str, int]  # table → rows in which a trace is found afterwards
    searched: tuple[str, ...]

    @property
    def gone(self) -> bool:
        return not any(self.left.values())


def pattern(known: Iterable[tuple[str, str]]) -> str:
    """A regular expression for every way these (kind, address) are written in texts, forms, JSON and URLs.

    A number counts only where no other digit stands beside it, a word where no letter or digit does. What matches is
    the address and nothing around it. Raises Problem where nothing is left to look for.
    """
    digits: set[str] = set()
    words: set[str] = set()
    for kind, address in known:
        found = addresses.phone(address) if kind == "phone" else None
        if found is not None:
            own = "".join(filter(str.isdigit, address))
            digits |= {way for way in (*addresses.written_ways(found.canonical), own) if len(way) >= SHORTEST_SEARCHED}
        elif len(address) >= SHORTEST_SEARCHED:
            words |= {address, quote(address, safe="")}
    parts = []
    if words:
        parts.append(_standing_alone("0-9a-z", map(re.escape, sorted(words))))
    if digits:
        parts.append(_standing_alone("0-9", map(_spaced, sorted(digits))))
    if not parts:
        raise Problem(
            "This contact has no address that can be searched for.",
            "Remove it by hand: its traces can't be proven gone.",
        )
    return "|".join(parts)


def _standing_alone(inside: str, ways: Iterable[str]) -> str:
    return f"{_BEGINS.format(inside=inside)}(?:{'|'.join(ways)}){_ENDS.format(inside=inside)}"


def _spaced(digits: str) -> str:
    return (_SPACES if len(digits) >= SHORTEST_SPACED else "").join(digits)


async def tenant(pool: database.Pool, named: str | None) -> UUID:
    """The tenant meant, by name or id; the only one where none is named. Raises Problem."""
    async with pool.acquire() as connection:
        every = await channels.tenants(connection)
    found = [tenant_id for tenant_id, name in every if named in (None, name, str(tenant_id))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{name} ({tenant_id})" for tenant_id, name in every) or "none"
    if named is None:
        raise Problem("Whose contact is it?", f"Add --tenant with a name or id. There are: {names}.")
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
    """Erase in one transaction, announce it by the contact's id, and search what is left."""
    searched = pattern(person.addresses)
    found = await erasure.mentions(pool, person, searched)

    async def once() -> dict[str, int]:
        async with pool.acquire() as connection, connection.transaction():
            done = await erasure.erase(connection, person, searched, found)
            await record(connection, Event("contact.erased", person.tenant_id, contact_id=person.contact_id))
            return done

    removed = await database.repeat(once)
    left = await erasure.traces(pool, person.tenant_id, searched)
    return Erased(removed, left, tuple(sorted({address for _, address in person.addresses})))
