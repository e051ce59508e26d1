"""Finds mail addresses that people of several numbers share, such as `none@example.com` where one had to be entered.

They must not join these people into one contact: one person's STOP would silence all of them, and one's START would
have the others written to.
"""

from collections.abc import Mapping
from uuid import UUID

from shared.database import Connection
from shared.domain.model import Address
from shared.store.imports import joins


async def own_addresses(
    connection: Connection, people: Mapping[int, tuple[UUID, tuple[Address, ...]]]
) -> dict[int, tuple[Address, ...]]:
    """Of people (tenant, addresses) by their place: their addresses, without a mail address that a person with another
    number has, here or before them among these."""
    asked = {(tenant, one.canonical) for tenant, every in people.values() for one in every if one.kind == "email"}
    numbers_of = await joins.numbers_of_mails(connection, asked)
    return {place: _own(numbers_of, *people[place]) for place in sorted(people)}


def _own(
    numbers_of: dict[tuple[UUID, str], set[str]], tenant: UUID, addresses: tuple[Address, ...]
) -> tuple[Address, ...]:
    numbers = {one.canonical for one in addresses if one.kind == "phone"}
    own = []
    for one in addresses:
        if one.kind == "email" and numbers:
            known = numbers_of.setdefault((tenant, one.canonical), set())
            if known and known.isdisjoint(numbers):
                continue
            known |= numbers
        own.append(one)
    return tuple(own)
