"""contact_imports and contact_import_defects: how far each file of contacts is, and which of its lines are wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast
from uuid import UUID

import asyncpg

from shared.database import Connection, new_id
from shared.domain.contact_files.defects import Defect, Field
from shared.domain.contact_files.merge import Existing
from shared.domain.contact_files.rows import Format
from shared.store.arrays import arrays
from shared.store.newest_first import Position, behind

MOST_DEFECTS: Final = 100_000  # of an import that are kept; all are counted


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of an import, beside its file."""

    format: Format
    default_country: str | None
    existing: Existing
    group_ids: tuple[UUID, ...]  # which every contact of the file gets into


@dataclass(frozen=True, slots=True)
class Counts:
    """Of rows: `created`, `updated`, `unchanged` and `refused` together are all of them. And of what came with them."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    defects: int = 0  # of lines that are refused, and of others
    memberships: int = 0  # contacts that got into groups, once for each
    groups_created: int = 0

    @property
    def rows(self) -> int:
        return self.created + self.updated + self.unchanged + self.refused


@dataclass(frozen=True, slots=True)
class ContactImport:
    """A row of `contact_imports`."""

    id: UUID
    tenant_id: UUID
    options: Options
    request_hash: bytes
    status: str  # `running` or `completed`
    lines: int  # of the file that are done
    digest: bytes  # SHA-256 of those
    counts: Counts
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


_COUNTS: Final = "created, updated, unchanged, refused, defects, memberships, groups_created"
_COLUMNS: Final = f"""id, tenant_id, request_hash, format, default_country, existing, group_ids, status, lines, digest,
    {_COUNTS}, created_at, updated_at, completed_at"""
_INSERT = f"""
INSERT INTO contact_imports (id, tenant_id, key_hash, request_hash, format, default_country, existing, group_ids,
    digest, groups_created)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING {_COLUMNS}
"""
_GET = f"SELECT {_COLUMNS} FROM contact_imports WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_BY_KEY = f"SELECT {_COLUMNS} FROM contact_imports WHERE tenant_id = $1 AND key_hash = $2"
_PAGE = f"SELECT {_COLUMNS} FROM contact_imports WHERE tenant_id = $1 AND status <> '' {behind(2)}"
_ADVANCE = f"""
UPDATE contact_imports SET lines = $3, digest = $4, created = created + $5, updated = updated + $6,
    unchanged = unchanged + $7, refused = refused + $8, defects = defects + $9, memberships = memberships + $10,
    groups_created = groups_created + $11
WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_COMPLETE = f"""
UPDATE contact_imports SET status = 'completed', completed_at = now() WHERE tenant_id = $1 AND id = $2
RETURNING {_COLUMNS}
"""
_ADD_DEFECTS = """
INSERT INTO contact_import_defects (tenant_id, import_id, line, field, code)
SELECT $1, $2, line, field, code FROM unnest($3::integer[], $4::text[], $5::text[]) AS given (line, field, code)
ON CONFLICT DO NOTHING
"""
_DEFECTS = """
SELECT line, field, code FROM contact_import_defects
WHERE tenant_id = $1 AND import_id = $2 AND (line, field) > ($3, $4) ORDER BY line, field LIMIT $5
"""
_FORGET = """
DELETE FROM contact_imports WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM contact_imports WHERE created_at < now() - make_interval(days => $1) LIMIT $2)
"""
# First: one import's may be more than a transaction is to delete.
_FORGET_DEFECTS = """
DELETE FROM contact_import_defects WHERE (tenant_id, import_id, line, field) IN (
    SELECT d.tenant_id, d.import_id, d.line, d.field FROM contact_imports i
    JOIN contact_import_defects d ON d.tenant_id = i.tenant_id AND d.import_id = i.id
    WHERE i.created_at < now() - make_interval(days => $1) LIMIT $2)
"""


async def insert(
    connection: Connection,
    tenant_id: UUID,
    options: Options,
    *,
    request_hash: bytes,
    key_hash: bytes | None,
    digest: bytes,
    groups_created: int,
) -> ContactImport | None:
    """Insert an import that has done nothing yet; `digest` is of no bytes. None where another one has the key.

    While another transaction holds the key uncommitted, this waits for its end.
    """
    row = await connection.fetchrow(
        _INSERT,
        *(new_id(), tenant_id, key_hash, request_hash),
        *(options.format, options.default_country, options.existing, list(options.group_ids)),
        *(digest, groups_created),
    )
    return None if row is None else _import(row)


async def get(connection: Connection, tenant_id: UUID, import_id: UUID, *, lock: bool = False) -> ContactImport | None:
    """The import. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, import_id)
    return None if row is None else _import(row)


async def by_key(connection: Connection, tenant_id: UUID, key_hash: bytes) -> ContactImport | None:
    """The import that began with this key."""
    row = await connection.fetchrow(_BY_KEY, tenant_id, key_hash)
    return None if row is None else _import(row)


async def page(connection: Connection, tenant_id: UUID, after: Position | None, limit: int) -> list[ContactImport]:
    """Imports, newest first, behind the position `after`."""
    return [_import(row) for row in await connection.fetch(_PAGE, tenant_id, *(after or (None, None)), limit)]


async def advance(
    connection: Connection, tenant_id: UUID, import_id: UUID, *, lines: int, digest: bytes, more: Counts
) -> ContactImport:
    """Note that so many lines of the file are done, and add to the counts."""
    counts = (more.created, more.updated, more.unchanged, more.refused)
    others = (more.defects, more.memberships, more.groups_created)
    row = await connection.fetchrow(_ADVANCE, tenant_id, import_id, lines, digest, *counts, *others)
    assert row is not None, "its row is locked by this transaction"
    return _import(row)


async def complete(connection: Connection, tenant_id: UUID, import_id: UUID) -> ContactImport:
    """Note that the whole file is done."""
    row = await connection.fetchrow(_COMPLETE, tenant_id, import_id)
    assert row is not None, "its row is locked by this transaction"
    return _import(row)


async def add_defects(connection: Connection, tenant_id: UUID, import_id: UUID, defects: Sequence[Defect]) -> None:
    """Keep what is wrong with lines."""
    if defects:
        columns = arrays([(one.line, one.field or "", one.code) for one in defects], 3)
        await connection.execute(_ADD_DEFECTS, tenant_id, import_id, *columns)


async def defects(
    connection: Connection, tenant_id: UUID, import_id: UUID, after: Defect | None, limit: int
) -> list[Defect]:
    """What is wrong with lines, in the order of the file, behind `after`."""
    line, field = (-1, "") if after is None else (after.line, after.field or "")
    rows = await connection.fetch(_DEFECTS, tenant_id, import_id, line, field, limit)
    return [Defect(row["line"], cast("Field | None", row["field"] or None), row["code"]) for row in rows]


async def forget(connection: Connection, days: int, limit: int) -> int:
    """Delete imports older than so many days, and their defects: at most `limit` rows; returns how many."""
    deleted = int((await connection.execute(_FORGET_DEFECTS, days, limit)).split()[-1])
    if deleted < limit:
        deleted += int((await connection.execute(_FORGET, days, limit - deleted)).split()[-1])
    return deleted


def _import(row: asyncpg.Record) -> ContactImport:
    return ContactImport(
        id=row["id"],
        tenant_id=row["tenant_id"],
        options=Options(row["format"], row["default_country"], row["existing"], tuple(row["group_ids"])),
        request_hash=row["request_hash"],
        status=row["status"],
        lines=row["lines"],
        digest=row["digest"],
        counts=Counts(**{name: row[name] for name in _COUNTS.split(", ")}),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        completed_at=row["completed_at"],
    )
