"""contacts and contact_addresses: finds or creates a person's contact by their addresses, and joins duplicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.database import Connection, new_id
from shared.domain.model import Address
from shared.store.arrays import arrays
from shared.store.by_key import only_if


@dataclass(frozen=True, slots=True)
class Person:
    """The sender of a message, with every address that the message carried."""

    tenant_id: UUID
    addresses: tuple[Address, ...]
    name: str | None
    contact_id: UUID | None = None  # the id of a new contact; None: one is made


class SplitError(Exception):
    """People who have several contacts each. The caller joins these by `join`, in a transaction of its own, and tries
    again."""

    def __init__(self, people: set[tuple[UUID, frozenset[UUID]]], made: set[UUID]) -> None:
        super().__init__(f"{len(people)} people are several contacts each")
        self.people = people  # (tenant, contacts) of each
        self.made = made  # new in this transaction, theirs or others'


_KNOWN = """
SELECT a.tenant_id, a.kind, a.canonical, a.contact_id
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS asked (tenant_id, kind, canonical)
JOIN contact_addresses a USING (tenant_id, kind, canonical)
"""

_ADD_ADDRESSES = """
INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[])
ON CONFLICT DO NOTHING RETURNING tenant_id, kind, canonical, contact_id
"""

_JOIN = """
UPDATE contact_addresses a SET contact_id = ours.contact_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS ours (tenant_id, kind, canonical, contact_id)
WHERE (a.tenant_id, a.kind, a.canonical) = (ours.tenant_id, ours.kind, ours.canonical)
"""

_ADD_CONTACTS = """
INSERT INTO contacts (id, tenant_id, name, phone_number)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])
"""

_REVIVE = f"""
UPDATE contacts SET deleted_at = NULL
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NOT NULL")}
"""

_JOIN_CONTACTS = "SELECT join_contacts($1, $2, $3)"
JOINS: Final = 5  # tries in a row: another transaction may join the same contacts meanwhile

Key = tuple[UUID, str, str]


def _keys(person: Person) -> list[Key]:
    return [(person.tenant_id, address.kind, address.canonical) for address in person.addresses]


def _one_of_each(people: Sequence[Person]) -> dict[Key, Key]:
    """Address → one address of the same person, the same one for all addresses that any of these people share.

    One message may have only an address that is new to us, and another one of the batch show whose it is.
    """
    above: dict[Key, Key] = {}

    def top(key: Key) -> Key:
        while (higher := above.setdefault(key, key)) != key:
            above[key] = above[higher]
            key = above[key]
        return key

    for person in people:
        keys = _keys(person)
        for key in keys:
            above[top(key)] = top(keys[0])
    return {key: top(key) for key in list(above)}


async def _known(connection: Connection, keys: Sequence[Key]) -> dict[Key, UUID]:
    rows = await connection.fetch(_KNOWN, *arrays(keys, 3))
    return {(row["tenant_id"], row["kind"], row["canonical"]): row["contact_id"] for row in rows}


async def _join(connection: Connection, contacts: Mapping[Key, UUID]) -> None:
    """Give addresses inserted in this transaction to another contact."""
    if contacts:
        keys = list(contacts)
        columns = arrays(keys, 3)
        await connection.execute(_JOIN, *columns, [contacts[key] for key in keys])


async def find_or_make(connection: Connection, people: Sequence[Person]) -> tuple[list[UUID], set[UUID]]:
    """Find or create the contact of each person; returns them in their order, and which of them are new.

    Two workers that meet the same new person agree on one contact: the address is inserted first, and the worker that
    loses takes the winner's contact. Rows are written in sorted order, so that overlapping batches don't deadlock.
    Raises SplitError where the addresses of one person belong to several contacts.
    """
    known = await _known(connection, list({key for person in people for key in _keys(person)}))
    _check_each_is_one(people, known, set())
    named_last = sorted(
        people, key=lambda person: person.name is not None
    )  # so that a person with a name names the contact
    given: dict[Key, tuple[str, Person]] = {
        (person.tenant_id, a.kind, a.canonical): (a.given, person) for person in named_last for a in person.addresses
    }

    one = _one_of_each(people)
    contact_of: dict[Key, UUID] = {}
    for key, contact_id in known.items():
        contact_of.setdefault(one[key], contact_id)
    wanted: dict[Key, UUID] = {}
    for person in people:
        keys = _keys(person)
        contact_id = contact_of.setdefault(one[keys[0]], person.contact_id or new_id())
        for key in keys:
            if key not in known:
                wanted.setdefault(key, contact_id)

    made: set[UUID] = set()
    if wanted:
        keys = sorted(wanted, key=str)
        rows = await connection.fetch(
            _ADD_ADDRESSES,
            *arrays(keys, 3),
            [given[key][0] for key in keys],
            [wanted[key] for key in keys],
        )
        won = {(row["tenant_id"], row["kind"], row["canonical"]): row["contact_id"] for row in rows}
        existing = set(known.values())
        lost = [key for key in keys if key not in won]
        if lost:
            # Another worker met this person at the same moment by some of these addresses: the others join its contact.
            theirs = await _known(connection, lost)
            known.update(theirs)
            instead = {wanted[key]: contact_id for key, contact_id in theirs.items() if wanted[key] not in existing}
            followers = {key: instead[contact_id] for key, contact_id in won.items() if contact_id in instead}
            await _join(connection, followers)
            won.update(followers)
            existing.update(theirs.values())
        new = {contact_id: key for key, contact_id in won.items() if contact_id not in existing}
        if new:
            ids = sorted(new)
            strangers = [given[new[i]][1] for i in ids]
            await connection.execute(
                _ADD_CONTACTS,
                ids,
                [person.tenant_id for person in strangers],
                [person.name for person in strangers],
                [next((a.given for a in person.addresses if a.kind == "phone"), None) for person in strangers],
            )
            made = set(ids)
        known.update(won)
        _check_each_is_one(people, known, made)
    return [known[_keys(person)[0]] for person in people], made


def _check_each_is_one(people: Sequence[Person], known: Mapping[Key, UUID], made: set[UUID]) -> None:
    split = set()
    for person in people:
        if len(person.addresses) > 1:
            contacts = frozenset(known[key] for key in _keys(person) if key in known)
            if len(contacts) > 1:
                split.add((person.tenant_id, contacts))
    if split:
        raise SplitError(split, made)


async def revive(connection: Connection, keys: set[tuple[UUID, UUID]]) -> None:
    """Undelete contacts (tenant, id). The caller has locked their conversations before, as everywhere."""
    await connection.executemany(_REVIVE, sorted(keys))


async def join(connection: Connection, split: SplitError) -> None:
    """Join the contacts of each person into one, in the caller's transaction, which should be short and its own.

    The remaining contact gets what the others had; the event `contact.joined` has the id of the removed one.
    """
    for tenant_id, contacts in sorted((tenant_id, sorted(contacts)) for tenant_id, contacts in split.people):
        stays, *others = contacts
        for other in others:
            stays = await connection.fetchval(_JOIN_CONTACTS, tenant_id, stays, other) or stays


async def find_or_join(connection: Connection, people: Sequence[Person]) -> tuple[list[UUID], set[UUID]]:
    """As `find_or_make`, and joins contacts in the same transaction: for a process that works alone, as an import does.

    A new contact that took in an existing one does not count as new.
    """
    made: set[UUID] = set()
    for _ in range(JOINS):
        try:
            found, new = await find_or_make(connection, people)
            return found, made | new
        except SplitError as split:
            made |= split.made
            for _tenant, contacts in split.people:
                if not contacts <= made:
                    made -= contacts
            await join(connection, split)
    found, new = await find_or_make(connection, people)
    return found, made | new
