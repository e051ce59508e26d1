"""Imports the recipients of campaigns: contacts, groups, group_contacts."""

from collections.abc import Sequence

from ops.imports import addresses, people
from ops.imports.steps import attempt, identified, in_order, store
from ops.imports.tally import NEW, THERE, Fate
from ops.imports.target import Target
from ops.imports.values import Reader, our_id
from shared.database import Connection
from shared.store.imports import insert as imported
from shared.store.imports import joins
from shared.store.imports.progress import Key
from shared.store.imports.rows import ContactRow, GroupContactRow, GroupRow


async def write_contacts(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    return await people.write_people(
        connection,
        readers,
        into,
        table="contacts",
        whose="tenant_id",
        convert=lambda reader, key: _contact(reader, key, into),
    )


def _contact(reader: Reader, key: Key, into: Target) -> people.SourcePerson:
    number = addresses.phone(reader.name("phone_number"))
    if number is None:
        reader.mend("number that is no phone number: left out", "phone_number")
    row = ContactRow(
        id=our_id(into.system, "contacts", *key),
        tenant_id=key[0],
        name=reader.name("name"),
        is_active=reader.flag("is_active", default=True),
        created_at=reader.time("created_at") or reader.now,
        deleted_at=reader.time("deleted_at"),
        metadata=reader.imported(),
    )
    return people.SourcePerson(row, () if number is None else (number,))


async def write_groups(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="groups", our_table="groups", fates=fates)

    def convert(reader: Reader) -> GroupRow:
        key = into.key(reader, into.tenant_of(reader))
        created_at = reader.time("created_at") or reader.now
        return GroupRow(
            id=our_id(into.system, "groups", *key),
            tenant_id=key[0],
            name=named(reader),
            description=reader.text("description"),
            is_active=reader.flag("is_active", default=True),
            created_at=created_at,
            updated_at=reader.time("updated_at") or created_at,
            deleted_at=reader.time("deleted_at"),
            metadata=reader.imported(),
        )

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="groups")
    return in_order(fates, readers)


def named(reader: Reader) -> str:
    name = reader.name("name")
    if name is None:
        reader.mended.add("no name: called after its id")
    return name or f"imported {reader.id('id')}"


async def write_members(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    trios = await _members(connection, readers, into, fates)
    known = await joins.members(connection, set(trios.values()))
    rows = {
        trio[1:]: GroupContactRow(*trio, readers[index].time("created_at") or readers[index].now)
        for index, trio in trios.items()
        if trio[1:] not in known
    }
    new = await imported.insert_members(connection, [rows[pair] for pair in sorted(rows)])
    for index, trio in trios.items():
        # Two contacts that are one person are in a group once.
        fates[index] = NEW if trio[1:] in new else THERE
        new.discard(trio[1:])
    return in_order(fates, readers)


async def count_members(connection: Connection, readers: Sequence[Reader], into: Target) -> int:
    trios = await _members(connection, readers, into, {})
    known = await joins.members(connection, set(trios.values()))
    return sum(trio[1:] in known for trio in trios.values())


async def _members(
    connection: Connection, readers: Sequence[Reader], into: Target, fates: dict[int, Fate]
) -> dict[int, joins.Trio]:
    """Index → tenant, group and contact of ours."""

    def keys_of(reader: Reader) -> tuple[Key, Key]:
        tenant_id = into.tenant_of(reader)
        return into.key(reader, tenant_id, "group_id"), into.key(reader, tenant_id, "contact_id")

    pairs = attempt(keys_of, readers, fates)
    groups = await into.ours(connection, "groups", "groups", [pair[0] for pair in pairs.values()])
    contacts = await into.ours(connection, "contacts", "contacts", [pair[1] for pair in pairs.values()])
    trios = {}
    for index, (group, contact) in pairs.items():
        if group in groups and contact in contacts:
            trios[index] = (group[0], groups[group], contacts[contact])
        else:
            what = "group" if group not in groups else "contact"
            fates[index] = Fate(is_new=False, skipped=f"its {what} is missing, or was skipped")
    return trios
