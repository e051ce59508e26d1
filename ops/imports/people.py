"""Imports people of any system: finds or creates our contacts, and joins those that are one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from ops.imports import shared_mail
from ops.imports.steps import attempt, identified, in_order, store
from ops.imports.tally import NEW, THERE, Fate
from ops.imports.target import Target
from ops.imports.values import Reader
from shared.database import Connection
from shared.domain.model import Address
from shared.store import contacts
from shared.store.contacts import Person
from shared.store.imports import joins, progress
from shared.store.imports.progress import Key
from shared.store.imports.rows import ContactRow, Json


@dataclass(frozen=True, slots=True)
class SourcePerson:
    """A row of a source's table of people."""

    row: ContactRow
    addresses: tuple[Address, ...]


async def write_people(
    connection: Connection,
    readers: Sequence[Reader],
    into: Target,
    *,
    table: str,
    whose: str,
    convert: Callable[[Reader, Key], SourcePerson],
) -> list[Fate]:
    """Contacts by the source's ids; a person who is a contact of ours by an address joins that one.

    Each has an alias, new ones too: a later row, or a webhook, may show them to be one person with another contact,
    and the row that had the source's id is no more.
    """
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table=table, our_table="contacts", whose=whose, fates=fates)
    people = attempt(lambda reader: convert(reader, into.key(reader, into.tenant_of(reader, whose))), readers, fates)
    reachable_by = {index: (one.row.tenant_id, one.addresses) for index, one in people.items()}
    for index, own in (await shared_mail.own_addresses(connection, reachable_by)).items():
        if own != people[index].addresses:
            people[index] = _without_mail(people[index], own, readers[index])
    reachable = {index: somebody for index, somebody in people.items() if somebody.addresses}
    found, made = await contacts.find_or_join(
        connection,
        [Person(one.row.tenant_id, one.addresses, one.row.name, one.row.id) for one in reachable.values()],
    )
    theirs = dict(zip(reachable, found, strict=True))
    announced = {
        index: one.row for index, one in reachable.items() if theirs[index] == one.row.id and one.row.id in made
    }
    await joins.set_details(connection, list(announced.values()))
    fates |= dict.fromkeys(announced, NEW)
    joined = {index: one for index, one in reachable.items() if index not in announced}
    await joins.fill_metadata(connection, [(theirs[index], one.row) for index, one in joined.items()])
    in_use = {(one.row.tenant_id, theirs[i]) for i, one in joined.items() if one.row.deleted_at is None}
    await contacts.revive(connection, in_use)
    fates |= dict.fromkeys(joined, THERE)
    others = {index: (keys[index], one.row) for index, one in people.items() if index not in reachable}
    stored = await store(connection, others, into, fates, table=table)
    theirs |= {index: row.id for index, (_, row) in others.items() if row.id in stored}
    await progress.add_aliases(connection, into.system, table, {keys[index]: one for index, one in theirs.items()})
    return in_order(fates, readers)


def _without_mail(one: SourcePerson, own: tuple[Address, ...], reader: Reader) -> SourcePerson:
    """With a mail address that others have too in `metadata.imported` alone."""
    reader.mended.add("a mail address of people of several numbers: left out")
    metadata = orjson.loads(one.row.metadata)
    mail = next(address.given for address in one.addresses if address not in own)
    metadata["imported"] = {**metadata.get("imported", {}), "email": mail}
    return SourcePerson(replace(one.row, metadata=Json(orjson.dumps(metadata).decode())), own)
