"""The steps of an import: a table, with how its rows become ours, batch by batch."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from ops.imports.tally import NEW, THERE, Fate
from ops.imports.target import Target
from ops.imports.values import Reader, Skip, our_id
from shared.database import Connection
from shared.store.imports import insert as imported
from shared.store.imports import progress
from shared.store.imports.progress import Key
from shared.store.imports.rows import ImportedRow
from shared.store.imports.source import Found, Source, Table

R = TypeVar("R", bound=ImportedRow)
T = TypeVar("T")

Write = Callable[[Connection, Sequence[Reader], Target], Awaitable[list[Fate]]]
Count = Callable[[Connection, Sequence[Reader], Target], Awaitable[int]]
Prepare = Callable[[Source, Found, Target], Awaitable[None]]


async def _nothing(_: Source, __: Found, ___: Target) -> None:
    """What most tables need before their first row."""


@dataclass(frozen=True, slots=True)
class Step:
    """One table of a source. `count` says how many of these rows lead to a row of ours; it is given the columns of
    the key and those named in `whose`."""

    table: Table
    write: Write
    count: Count
    whose: tuple[str, ...] = ()
    prepare: Prepare = _nothing


@dataclass(frozen=True, slots=True)
class System:
    """A layout. `identity` names it in ids and aliases: two that share a reader share that."""

    identity: str
    summary: str
    brings_tenants: bool
    steps: tuple[Step, ...]


def attempt(convert: Callable[[Reader], T], readers: Sequence[Reader], fates: dict[int, Fate]) -> dict[int, T]:
    """Index → the converted row. The reason why a row was skipped goes into `fates`."""
    made: dict[int, T] = {}
    for index, reader in enumerate(readers):
        if index in fates:
            continue
        try:
            made[index] = convert(reader)
        except Skip as skip:
            fates[index] = Fate(is_new=False, skipped=str(skip))
    return made


def in_order(fates: dict[int, Fate], readers: Sequence[Reader]) -> list[Fate]:
    return [fates[index] for index in range(len(readers))]


async def identified(
    connection: Connection,
    readers: Sequence[Reader],
    into: Target,
    *,
    table: str,
    our_table: str,
    whose: str = "tenant_id",
    fates: dict[int, Fate],
) -> dict[int, Key]:
    """Index → tenant and source id of the rows that are not here yet; those that are, are there."""
    keys = attempt(lambda reader: into.key(reader, into.tenant_of(reader, whose)), readers, fates)
    known = await into.ours(connection, table, our_table, keys.values())
    fates |= {index: THERE for index, key in keys.items() if key in known}
    return {index: key for index, key in keys.items() if key not in known}


def counted(table: str, our_table: str, whose: str = "tenant_id") -> Count:
    """Counts rows by their own ids, and by what they joined."""

    async def count(connection: Connection, readers: Sequence[Reader], into: Target) -> int:
        keys = attempt(lambda reader: into.key(reader, into.tenant_of(reader, whose)), readers, {})
        known = await into.ours(connection, table, our_table, keys.values())
        return sum(key in known for key in keys.values())

    return count


Join = Callable[[Connection, Sequence[R]], Awaitable[dict[UUID, UUID]]]


async def store(
    connection: Connection,
    rows: dict[int, tuple[Key, R]],
    into: Target,
    fates: dict[int, Fate],
    *,
    table: str,
    join: Join[R] | None = None,
) -> set[UUID]:
    """Insert rows of one kind; returns the ids of the new ones. One that could not go in because another is in its
    place joins that one, if `join` finds it."""
    ordered = sorted(rows.values(), key=lambda pair: pair[0])
    new = await imported.insert(connection, [row for _, row in ordered])
    ids = {index: our_id(into.system, table, *key) for index, (key, _) in rows.items()}
    refused = {index: rows[index] for index in rows if ids[index] not in new}
    found = await join(connection, [row for _, row in refused.values()]) if join and refused else {}
    joined = {key: found[ids[index]] for index, (key, _) in refused.items() if ids[index] in found}
    await progress.add_aliases(connection, into.system, table, joined)
    for index, (key, _) in rows.items():
        if ids[index] in new:
            fates[index] = NEW
        elif key in joined:
            fates[index] = THERE
        else:
            fates[index] = Fate(is_new=False, skipped="another row is in its place")
    return new
