"""Imports contacts, a batch of a file's rows in a transaction: with its events, its defects and how far the file is."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from uuid import UUID

import orjson

from shared.database import Connection, new_id
from shared.domain.contact_files.defects import MOST_NEW_GROUPS, Defect
from shared.domain.contact_files.merge import Draft, Existing, key_of, merge
from shared.domain.contact_files.people import ImportedPerson
from shared.domain.contact_files.rows import Format
from shared.store import contact_batches as batches
from shared.store import contact_imports as store
from shared.store.contact_imports import ContactImport, Counts, Options
from shared.store.events import Event, record

_NOTHING: Final = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a new import. Contacts get into `groups`, by name, whatever else their rows say."""

    format: Format
    default_country: str | None = None
    existing: Existing = "update"
    groups: tuple[str, ...] = ()

    @property
    def hash(self) -> bytes:
        """SHA-256 by which a request that comes again is compared with the first one."""
        return sha256(orjson.dumps([self.format, self.default_country, self.existing, sorted(self.groups)])).digest()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that go in with one transaction, as they are read, and where the file is behind them."""

    people: Sequence[tuple[int, ImportedPerson]]  # each with its line
    defects: Sequence[Defect]  # of lines that are refused already
    lines: int
    digest: bytes  # SHA-256 of the file up to there


class Overtaken(Exception):
    """Another upload of the same file has done more of it since: `stored` is how far it is."""

    def __init__(self, stored: ContactImport) -> None:
        super().__init__(f"the import is at line {stored.lines} already")
        self.stored = stored


async def begin(connection: Connection, tenant_id: UUID, asked: Asked, key: str | None) -> tuple[ContactImport, bool]:
    """A new import, or the one that began with the same key (an Idempotency-Key); and whether it is new.

    The caller compares what was asked of an earlier one: its `request_hash` with `asked.hash`.
    """
    key_hash = None if key is None else _hash_of(key)
    while True:
        found = None if key is None else await with_key(connection, tenant_id, key)
        if found is not None:
            return found, False
        groups, created = await _find_or_make_groups(connection, tenant_id, asked.groups, MOST_NEW_GROUPS)
        begun = await store.insert(
            connection,
            tenant_id,
            Options(asked.format, asked.default_country, asked.existing, tuple(groups.values())),
            request_hash=asked.hash,
            key_hash=key_hash,
            digest=_NOTHING,
            groups_created=created,
        )
        if begun is not None:
            return begun, True


async def with_key(connection: Connection, tenant_id: UUID, key: str) -> ContactImport | None:
    """The import that began with this key."""
    return await store.by_key(connection, tenant_id, _hash_of(key))


def _hash_of(key: str) -> bytes:
    """What is kept of a client's key, which may hold a person's number."""
    return sha256(key.encode()).digest()


async def put_in(connection: Connection, tenant_id: UUID, import_id: UUID, batch: Batch, after: int) -> ContactImport:
    """Put a batch in that begins behind line `after`; returns how far the import is now.

    Raises Overtaken, and AddressTaken where the transaction is to be repeated.
    """
    stored = await store.get(connection, tenant_id, import_id, lock=True)
    assert stored is not None, "imports are deleted when they are old"
    if stored.lines != after:
        raise Overtaken(stored)
    keys = {key_of(address) for _, person in batch.people for address in person.addresses}
    known = await batches.known(connection, tenant_id, keys)
    merged = merge(batch.people, known, stored.options.existing, new_id)
    await batches.write(connection, tenant_id, merged.drafts)
    await record(connection, *_events(tenant_id, merged.drafts))
    memberships, created, group_defects = await _put_into_groups(connection, stored, merged.drafts)
    defects = [*batch.defects, *merged.defects, *group_defects]
    if stored.counts.defects < store.MOST_DEFECTS:
        await store.add_defects(connection, tenant_id, import_id, defects)
    more = Counts(
        created=merged.created,
        updated=merged.updated,
        unchanged=merged.unchanged,
        refused=merged.refused + len({one.line for one in batch.defects}),
        defects=len(defects),
        memberships=memberships,
        groups_created=created,
    )
    return await store.advance(connection, tenant_id, import_id, lines=batch.lines, digest=batch.digest, more=more)


async def complete(connection: Connection, tenant_id: UUID, import_id: UUID, after: int) -> ContactImport:
    """Note that the file ends behind line `after`. Raises Overtaken."""
    stored = await store.get(connection, tenant_id, import_id, lock=True)
    assert stored is not None, "imports are deleted when they are old"
    if stored.status == "completed":
        return stored
    if stored.lines != after:
        raise Overtaken(stored)
    return await store.complete(connection, tenant_id, import_id)


def _events(tenant_id: UUID, drafts: Sequence[Draft]) -> list[Event]:
    return [Event(f"contact.{name}", tenant_id, contact_id=one.id) for one in drafts if (name := _change(one))]


def _change(draft: Draft) -> str | None:
    if draft.before is None:
        return "created"
    if draft.is_restored:
        return "restored"
    return "updated" if draft.is_changed else None


async def _put_into_groups(
    connection: Connection, stored: ContactImport, drafts: Sequence[Draft]
) -> tuple[int, int, list[Defect]]:
    """Put contacts into the groups of their rows and of the whole import.

    Returns how many memberships and groups are new, and which lines name groups that are too many.
    """
    tenant_id = stored.tenant_id
    first_lines: dict[str, int] = {}
    for draft in drafts:
        for name, line in draft.groups.items():
            first_lines[name] = min(line, first_lines.get(name, line))
    names = sorted(first_lines, key=first_lines.__getitem__)
    room = MOST_NEW_GROUPS - stored.counts.groups_created
    groups, created = await _find_or_make_groups(connection, tenant_id, names, room)
    members = {(groups[name], draft.id) for draft in drafts for name in draft.groups if name in groups}
    members |= {(group_id, draft.id) for draft in drafts for group_id in stored.options.group_ids}
    grown = Counter(await batches.add_members(connection, tenant_id, members))
    events = [
        Event("group.updated", tenant_id, detail={"group_id": str(group_id), "contacts_added": added})
        for group_id, added in sorted(grown.items())
    ]
    await record(connection, *events)
    defects = [
        Defect(line, "groups", "too_many_groups")
        for draft in drafts
        for name, line in draft.groups.items()
        if name not in groups
    ]
    return grown.total(), created, defects


async def _find_or_make_groups(
    connection: Connection, tenant_id: UUID, names: Collection[str], room: int
) -> tuple[Mapping[str, UUID], int]:
    """The groups of these names, with at most `room` new ones; and how many are new."""
    found = await batches.groups(connection, tenant_id, names)
    if len(found) == len(set(names)):
        return found, 0
    await batches.lock_groups(connection, tenant_id)
    found = await batches.groups(connection, tenant_id, names)
    missing = [name for name in dict.fromkeys(names) if name not in found][: max(room, 0)]
    if not missing:
        return found, 0
    made = await batches.add_groups(connection, tenant_id, missing)
    await record(
        connection, *(Event("group.created", tenant_id, detail={"group_id": str(one)}) for one in made.values())
    )
    return {**found, **made}, len(made)
