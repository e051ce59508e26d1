"""groups and group_contacts: a tenant's lists of contacts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection, new_id
from shared.store.by_key import only_if
from shared.store.contact_records import ContactRecord
from shared.store.newest_first import Position, behind, id_or_last


@dataclass(frozen=True, slots=True)
class Group:
    """A row of `groups`."""

    id: UUID
    tenant_id: UUID
    name: str
    description: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class GroupValues:
    """What a tenant writes of a group."""

    name: str
    description: str | None
    is_active: bool


_COLUMNS: Final = "id, tenant_id, name, description, is_active, created_at, updated_at, deleted_at"
_GET = f"SELECT {_COLUMNS} FROM groups WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_PAGE = f"""
SELECT {_COLUMNS} FROM groups
WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::boolean IS NULL OR is_active = $2) {behind(3)}
"""
_INSERT = f"""
INSERT INTO groups (tenant_id, id, name, description, is_active) VALUES ($1, $2, $3, $4, $5) RETURNING {_COLUMNS}
"""
_UPDATE = f"""
UPDATE groups SET name = $3, description = $4, is_active = $5 WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE groups SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {_COLUMNS}
"""
_KNOWN = "SELECT id FROM groups WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND deleted_at IS NULL"


async def get(connection: Connection, tenant_id: UUID, group_id: UUID, *, lock: bool = False) -> Group | None:
    """The group, deleted or not. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, group_id)
    return None if row is None else Group(**row)


async def known(connection: Connection, tenant_id: UUID, group_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these ids that are live groups of the tenant."""
    return {row["id"] for row in await connection.fetch(_KNOWN, tenant_id, group_ids)}


async def page(
    connection: Connection, tenant_id: UUID, *, is_active: bool | None, after: Position | None, limit: int
) -> list[Group]:
    """Live groups, newest first, behind the position `after`."""
    rows = await connection.fetch(_PAGE, tenant_id, is_active, *(after or (None, None)), limit)
    return [Group(**row) for row in rows]


async def insert(connection: Connection, tenant_id: UUID, given: GroupValues) -> Group:
    """Insert a group."""
    values = (given.name, given.description, given.is_active)
    return _group(await connection.fetchrow(_INSERT, tenant_id, new_id(), *values))


async def update(connection: Connection, tenant_id: UUID, group_id: UUID, given: GroupValues) -> Group:
    """Write a group's columns. The group must be there."""
    values = (given.name, given.description, given.is_active)
    return _group(await connection.fetchrow(_UPDATE, tenant_id, group_id, *values))


async def delete(connection: Connection, tenant_id: UUID, group_id: UUID) -> Group | None:
    """Delete a group softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, group_id)
    return None if row is None else Group(**row)


def _group(row: asyncpg.Record | None) -> Group:
    assert row is not None, "the statement returns the row that it wrote"
    return Group(**row)


# -- its contacts ------------------------------------------------------------------------------------------------------

_ADD = """
INSERT INTO group_contacts (tenant_id, group_id, contact_id)
SELECT $1, $2, contact_id FROM unnest($3::uuid[]) AS given (contact_id)
ON CONFLICT DO NOTHING RETURNING contact_id
"""
_REMOVE = """
DELETE FROM group_contacts WHERE tenant_id = $1 AND group_id = $2 AND contact_id = ANY($3::uuid[]) RETURNING contact_id
"""
_CONTACTS = f"""
SELECT c.id, c.tenant_id, c.phone_number, c.name, c.is_active, c.created_at, c.updated_at, c.deleted_at
FROM group_contacts g JOIN contacts c ON c.tenant_id = g.tenant_id AND c.id = g.contact_id
WHERE g.tenant_id = $1 AND g.group_id = $2 AND {only_if("c.deleted_at IS NULL")}
    AND g.contact_id < {id_or_last(3)}
ORDER BY g.contact_id DESC LIMIT $4
"""


async def add_contacts(connection: Connection, tenant_id: UUID, group_id: UUID, contact_ids: Sequence[UUID]) -> int:
    """Add contacts, in one order, so that two transactions don't lock each other out; returns how many are new."""
    return len(await connection.fetch(_ADD, tenant_id, group_id, sorted(set(contact_ids))))


async def remove_contacts(connection: Connection, tenant_id: UUID, group_id: UUID, contact_ids: Sequence[UUID]) -> int:
    """Take contacts out of a group; returns how many were in it."""
    return len(await connection.fetch(_REMOVE, tenant_id, group_id, contact_ids))


async def contacts(
    connection: Connection, tenant_id: UUID, group_id: UUID, after: UUID | None, limit: int
) -> list[ContactRecord]:
    """Live contacts of a group, behind the contact `after`: by the primary key, and so mostly the newest first."""
    rows = await connection.fetch(_CONTACTS, tenant_id, group_id, after, limit)
    return [ContactRecord(**row) for row in rows]
