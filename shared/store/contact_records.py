"""contacts: reads, lists and writes one contact's row, as the management API and the tenants' own systems know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.store.by_key import only_if
from shared.store.newest_first import Position, behind

MOST_READ: Final = 1000  # contacts that one page reads in search of those that its filters want


@dataclass(frozen=True, slots=True)
class ContactRecord:
    """A row of `contacts`."""

    id: UUID
    tenant_id: UUID
    phone_number: str | None
    name: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


COLUMNS: Final = "id, tenant_id, phone_number, name, is_active, created_at, updated_at, deleted_at"
_GET = f"SELECT {COLUMNS} FROM contacts WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_LIVE: Final = "deleted_at IS NULL"
_DELETED: Final = "deleted_at IS NOT NULL"


def _newest(which: str, most: int | None = None) -> str:
    return f"SELECT {COLUMNS} FROM contacts WHERE tenant_id = $1 AND {which} {behind(2, most)}"


_PAGE = _newest(_LIVE)
_DELETED_PAGE = _newest(_DELETED)
_INACTIVE_PAGE = _newest(f"{_LIVE} AND NOT is_active")  # few of many, which have an index of their own


def _among_newest(which: str) -> tuple[str, str]:
    """A page of those that are active or not, of a bounded number of contacts, and up to where these reach."""
    newest = f"({_newest(which, MOST_READ)}) AS newest"
    page = f"SELECT * FROM {newest} WHERE is_active = $4 ORDER BY created_at DESC, id DESC LIMIT $5"
    return page, f"SELECT created_at, id FROM {newest} ORDER BY created_at DESC, id DESC OFFSET {MOST_READ - 1} LIMIT 1"


_AMONG_LIVE = _among_newest(_LIVE)
_AMONG_DELETED = _among_newest(_DELETED)
_INSERT = f"""
INSERT INTO contacts (id, tenant_id, phone_number, name, is_active) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}
"""
_UPDATE = f"""
UPDATE contacts SET phone_number = $3, name = $4, is_active = $5 WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}
"""
_DELETE = f"""
UPDATE contacts SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {COLUMNS}
"""
_RESTORE = f"""
UPDATE contacts SET deleted_at = NULL
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NOT NULL")} RETURNING {COLUMNS}
"""
_HOLDER = """
SELECT a.contact_id, c.deleted_at FROM contact_addresses a
JOIN contacts c ON c.tenant_id = a.tenant_id AND c.id = a.contact_id
WHERE a.tenant_id = $1 AND a.kind = 'phone' AND a.canonical = $2
"""


_KNOWN = "SELECT id, deleted_at IS NULL AS lives FROM contacts WHERE tenant_id = $1 AND id = ANY($2::uuid[])"


async def get(connection: Connection, tenant_id: UUID, contact_id: UUID, *, lock: bool = False) -> ContactRecord | None:
    """The contact, deleted or not. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, contact_id)
    return None if row is None else ContactRecord(**row)


async def known(connection: Connection, tenant_id: UUID, contact_ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Those of these ids that are contacts of the tenant → whether they are live."""
    return {row["id"]: row["lives"] for row in await connection.fetch(_KNOWN, tenant_id, contact_ids)}


async def page(
    connection: Connection,
    tenant_id: UUID,
    *,
    is_active: bool | None,
    deleted: bool,
    after: Position | None,
    limit: int,
) -> tuple[list[ContactRecord], Position | None]:
    """Contacts, newest first, behind the position `after`; the second value as in `conversation_records.page`."""
    begin = (tenant_id, *(after or (None, None)))
    if is_active is None or not (is_active or deleted):
        statement = _DELETED_PAGE if deleted else _PAGE if is_active is None else _INACTIVE_PAGE
        return [ContactRecord(**row) for row in await connection.fetch(statement, *begin, limit)], None
    statement, read_up_to = _AMONG_DELETED if deleted else _AMONG_LIVE
    rows = await connection.fetch(statement, *begin, is_active, limit)
    if len(rows) == limit:
        return [ContactRecord(**row) for row in rows], None
    end = await connection.fetchrow(read_up_to, *begin)
    return [ContactRecord(**row) for row in rows], None if end is None else (end["created_at"], end["id"])


async def insert(
    connection: Connection, tenant_id: UUID, contact_id: UUID, phone_number: str | None, name: str | None, active: bool
) -> ContactRecord:
    """Insert a contact. As palomar_api, a trigger makes the number an address, and raises UniqueViolationError where
    another contact has it."""
    return _record(await connection.fetchrow(_INSERT, contact_id, tenant_id, phone_number, name, active))


async def update(
    connection: Connection, tenant_id: UUID, contact_id: UUID, phone_number: str | None, name: str | None, active: bool
) -> ContactRecord:
    """Write a contact's columns. Raises UniqueViolationError as `insert`. The contact must be there."""
    return _record(await connection.fetchrow(_UPDATE, tenant_id, contact_id, phone_number, name, active))


async def delete(connection: Connection, tenant_id: UUID, contact_id: UUID) -> ContactRecord | None:
    """Delete a contact softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, contact_id)
    return None if row is None else ContactRecord(**row)


async def restore(connection: Connection, tenant_id: UUID, contact_id: UUID) -> ContactRecord | None:
    """Undo a soft deletion; None where there is no deleted one."""
    row = await connection.fetchrow(_RESTORE, tenant_id, contact_id)
    return None if row is None else ContactRecord(**row)


async def holder(connection: Connection, tenant_id: UUID, canonical: str) -> tuple[UUID, bool] | None:
    """Whose address this phone number is, and whether that contact is live; None where it is no contact's."""
    row = await connection.fetchrow(_HOLDER, tenant_id, canonical)
    return None if row is None else (row["contact_id"], row["deleted_at"] is None)


def _record(row: asyncpg.Record | None) -> ContactRecord:
    assert row is not None, "the statement returns the row that it wrote"
    return ContactRecord(**row)
