"""contacts and contact_addresses: finds contacts by a text, and what is stored of one: addresses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.model import Address
from shared.store.by_key import only_if
from shared.store.contact_records import COLUMNS, ContactRecord
from shared.store.newest_first import Position, behind

READ_AT_ONCE: Final = 1000  # contacts that one search looks at
MOST_ADDRESSES: Final = 1000  # of one contact


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found, and the position behind which it would go on; None where it has seen all."""

    contacts: list[ContactRecord]
    next: Position | None


@dataclass(frozen=True, slots=True)
class StoredAddress:
    """An address by which a contact is known."""

    kind: str
    canonical: str
    given: str
    created_at: datetime


_BY_ADDRESS = f"""
SELECT DISTINCT c.*
FROM unnest($2::text[], $3::text[]) AS asked (kind, canonical)
CROSS JOIN LATERAL (
    SELECT contact_id FROM contact_addresses
    WHERE tenant_id = $1 AND kind = asked.kind AND canonical = asked.canonical OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT {COLUMNS} FROM contacts
    WHERE tenant_id = $1 AND id = a.contact_id AND {only_if("deleted_at IS NULL")} OFFSET 0
) AS c
"""
# The last contact that was looked at is answered too, so that the next search knows where to begin. Under row level
# security no index could answer LIKE, whose operator may not see other tenants' rows: so a search reads, within bounds.
_SCAN = f"""
SELECT * FROM (
    SELECT seen.*, row_number() OVER (ORDER BY created_at DESC, id DESC) AS place,
        strpos(lower(name), lower($2)) > 0 OR strpos(phone_number, $3) > 0 AS matches
    FROM (
        SELECT {COLUMNS} FROM contacts WHERE tenant_id = $1 AND deleted_at IS NULL {behind(4)}
    ) AS seen
) AS numbered
WHERE matches OR place = $6 ORDER BY created_at DESC, id DESC LIMIT $7
"""
_ADDRESSES = """
SELECT kind, canonical, given, created_at FROM contact_addresses WHERE tenant_id = $1 AND contact_id = $2
ORDER BY created_at, kind, canonical LIMIT $3
"""


async def by_address(connection: Connection, tenant_id: UUID, asked: Sequence[Address]) -> list[ContactRecord]:
    """Live contacts that have one of these addresses."""
    kinds, canonical = [one.kind for one in asked], [one.canonical for one in asked]
    return [ContactRecord(**row) for row in await connection.fetch(_BY_ADDRESS, tenant_id, kinds, canonical)]


async def scan(
    connection: Connection, tenant_id: UUID, text: str, digits: str | None, after: Position | None, limit: int
) -> Found:
    """Live contacts, newest first, behind `after`, whose name holds the text or whose number holds the digits.

    At most READ_AT_ONCE contacts are looked at, so that fewer than `limit` may be found before the end.
    """
    rows = await connection.fetch(_SCAN, tenant_id, text, digits, *(after or (None, None)), READ_AT_ONCE, limit + 1)
    contacts = [
        ContactRecord(**{name: value for name, value in row.items() if name not in ("place", "matches")})
        for row in rows
        if row["matches"]
    ]
    if len(contacts) > limit:
        contacts = contacts[:limit]
        return Found(contacts, (contacts[-1].created_at, contacts[-1].id))
    more = bool(rows) and rows[-1]["place"] == READ_AT_ONCE
    return Found(contacts, (rows[-1]["created_at"], rows[-1]["id"]) if more else None)


async def addresses(connection: Connection, tenant_id: UUID, contact_id: UUID) -> list[StoredAddress]:
    """The addresses of a contact, oldest first, at most MOST_ADDRESSES."""
    rows = await connection.fetch(_ADDRESSES, tenant_id, contact_id, MOST_ADDRESSES)
    return [StoredAddress(**row) for row in rows]
