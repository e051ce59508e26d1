"""consents: lists the ledger as the management API shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.store.newest_first import id_or_last, time_or

MOST_READ: Final = 2000  # entries that one page reads in search of those that its filters want


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """A row of `consents`. `holds`: it is the newest of its contact, kind of channel and scope, so it counts."""

    id: UUID
    tenant_id: UUID
    contact_id: UUID
    channel_kind: str
    scope: str
    state: str
    source: str
    message_id: UUID | None
    evidence: Mapping[str, Any]
    effective_at: datetime
    created_at: datetime
    holds: bool


_COLUMNS: Final = """
entry.id, entry.tenant_id, entry.contact_id, entry.channel_kind, entry.scope, entry.state, entry.source,
entry.message_id, entry.evidence, entry.effective_at, entry.created_at, NOT EXISTS (
    SELECT FROM consents AS later
    WHERE later.contact_id = entry.contact_id AND later.channel_kind = entry.channel_kind
        AND later.tenant_id = entry.tenant_id AND later.scope = entry.scope
        AND later.effective_at >= entry.effective_at
        AND (later.effective_at, later.state, later.id) > (entry.effective_at, entry.state, entry.id)
) AS holds
"""
# BETWEEN lets the planner expect few rows, for which it takes the index in its order.
_BEHIND: Final = f"""
    AND created_at BETWEEN '-infinity' AND {time_or("infinity", 2)} AND (created_at, id)
        < ({time_or("infinity", 2)}, {id_or_last(3)})
"""
_NEWEST: Final = (
    f"SELECT * FROM consents WHERE tenant_id = $1 AND state <> '' {_BEHIND} ORDER BY created_at DESC, id DESC"
)
_PAGE = f"""
SELECT {_COLUMNS} FROM ({_NEWEST} LIMIT {MOST_READ}) AS entry
WHERE ($4::text IS NULL OR channel_kind = $4) AND ($5::text IS NULL OR state = $5)
ORDER BY created_at DESC, id DESC LIMIT $6
"""
_READ_UP_TO = f"SELECT created_at, id FROM ({_NEWEST} OFFSET {MOST_READ - 1} LIMIT 1) AS last"
# A contact has few entries.
_OF_CONTACT = f"""
SELECT {_COLUMNS} FROM consents AS entry
WHERE tenant_id = $1 {_BEHIND} AND contact_id = $4 AND ($5::text IS NULL OR channel_kind = $5)
    AND ($6::text IS NULL OR state = $6)
ORDER BY created_at DESC, id DESC LIMIT $7
"""

Position = tuple[datetime, UUID]
"""Where a page ended: created_at and id of its last entry."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a list shows; None: any."""

    contact_id: UUID | None = None
    channel_kind: str | None = None
    state: str | None = None


async def page(
    connection: Connection, tenant_id: UUID, wanted: Wanted, after: Position | None, limit: int
) -> tuple[Sequence[ConsentRecord], Position | None]:
    """Entries, the last one entered first, behind the position `after`; the second value as in
    `conversation_records.page`."""
    begin = (tenant_id, *(after or (None, None)))
    if wanted.contact_id is not None:
        filters = (wanted.contact_id, wanted.channel_kind, wanted.state)
        rows = await connection.fetch(_OF_CONTACT, *begin, *filters, limit)
        return [ConsentRecord(**row) for row in rows], None
    rows = await connection.fetch(_PAGE, *begin, wanted.channel_kind, wanted.state, limit)
    found = [ConsentRecord(**row) for row in rows]
    if len(found) == limit:
        return found, None
    end = await connection.fetchrow(_READ_UP_TO, *begin)
    return found, None if end is None else (end["created_at"], end["id"])
