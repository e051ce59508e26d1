"""import_progress and import_aliases: how far an import has come, and which rows of ours the source's rows became."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection, LockTimeout, Pool
from shared.store.arrays import arrays

# -- one import at a time ----------------------------------------------------------------------------------------------

LOCK: Final = 0x70616C6F0000  # of imports; any number that no other program locks

_WAIT = "SELECT set_config('lock_timeout', $1, false)"
_TAKE = "SELECT pg_advisory_lock($1)"


async def take(connection: Connection, number: int, patience: timedelta) -> bool:
    """Take an advisory lock for the life of this connection. False where it is not free within `patience`."""
    await connection.execute(_WAIT, f"{patience.total_seconds() * 1000:.0f}ms")
    try:
        await connection.execute(_TAKE, number)
    except LockTimeout:
        return False
    return True


# -- progress ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """The table that a progress is about: system, source (SHA-256), table."""

    system: str
    source: bytes
    table: str


@dataclass(frozen=True, slots=True)
class Progress:
    after: tuple[str, ...]  # key of the last imported row
    tally: Mapping[str, object]


_PROGRESS = """
SELECT after_key, tally FROM import_progress
WHERE (system, source, source_table) = ($1, $2, $3)
"""
_KEEP = """
INSERT INTO import_progress (system, source, source_table, after_key, tally)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (system, source, source_table) DO UPDATE SET
    after_key = excluded.after_key, tally = excluded.tally, updated_at = now()
"""
_FORGET = "DELETE FROM import_progress WHERE (system, source) = ($1, $2)"


async def progress(connection: Connection | Pool, place: Place) -> Progress | None:
    """How far this table is imported; None where nothing of it is."""
    row = await connection.fetchrow(_PROGRESS, place.system, place.source, place.table)
    if row is None:
        return None
    return Progress(tuple(row["after_key"]), row["tally"])


async def keep(connection: Connection, place: Place, after: Sequence[str], tally: Mapping[str, object]) -> None:
    """Record how far this table is imported, in the transaction that wrote its rows."""
    await connection.execute(_KEEP, place.system, place.source, place.table, list(after), tally)


async def forget(connection: Connection | Pool, system: str, source: bytes) -> None:
    """Delete the progress of a source, so that its next import starts over."""
    await connection.execute(_FORGET, system, source)


# -- aliases -----------------------------------------------------------------------------------------------------------

Key = tuple[UUID, str]  # tenant, id in the source

_ALIASES = """
SELECT a.tenant_id, a.source_id, a.our_id
FROM unnest($3::uuid[], $4::text[]) AS asked (tenant_id, source_id)
CROSS JOIN LATERAL (
    SELECT * FROM import_aliases
    WHERE tenant_id = asked.tenant_id AND system = $1 AND source_table = $2 AND source_id = asked.source_id OFFSET 0
) AS a
"""
_ADD_ALIASES = """
INSERT INTO import_aliases (tenant_id, system, source_table, source_id, our_id)
SELECT tenant_id, $1, $2, source_id, our_id
FROM unnest($3::uuid[], $4::text[], $5::uuid[]) AS new (tenant_id, source_id, our_id)
ON CONFLICT (tenant_id, system, source_table, source_id) DO UPDATE SET our_id = excluded.our_id
"""


async def aliases(connection: Connection, system: str, table: str, keys: Iterable[Key]) -> dict[Key, UUID]:
    """Source row → the row of ours that it became; without those that have none."""
    ordered = sorted(set(keys))
    rows = await connection.fetch(_ALIASES, system, table, *arrays(ordered, 2))
    return {(row["tenant_id"], row["source_id"]): row["our_id"] for row in rows}


async def add_aliases(connection: Connection, system: str, table: str, joined: Mapping[Key, UUID]) -> None:
    """Record which rows of ours these source rows are, in place of earlier ones that are deleted."""
    if joined:
        keys = sorted(joined)
        ids = [joined[key] for key in keys]
        await connection.execute(_ADD_ALIASES, system, table, *arrays(keys, 2), ids)


# Tables that an import writes to and that are looked up by tenant and id.
_EXISTING: Final = {
    name: f"""
SELECT r.tenant_id, r.id FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id)
JOIN {name} r USING (tenant_id, id)
"""
    for name in (
        "contacts", "channels", "conversations", "messages", "sessions", "groups", "message_templates", "campaigns",
        "campaign_recipients", "webhooks", "webhook_logs",
    )
}  # fmt: skip
_EXISTING_TENANTS = "SELECT id FROM tenants WHERE id = ANY($1::uuid[])"


async def existing(connection: Connection, table: str, keys: Iterable[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Which of these (tenant, id) exist in this table of ours."""
    ordered = sorted(set(keys))
    rows = await connection.fetch(_EXISTING[table], *arrays(ordered, 2))
    return {(row["tenant_id"], row["id"]) for row in rows}


async def existing_tenants(connection: Connection | Pool, ids: Iterable[UUID]) -> set[UUID]:
    """Which of these are ids of tenants."""
    return {row["id"] for row in await connection.fetch(_EXISTING_TENANTS, sorted(set(ids)))}
