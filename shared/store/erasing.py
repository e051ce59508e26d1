"""Erasing a person: every row about them goes, raw webhooks included; and the search that proves it.

Traces in free text are found by a pattern over the person's addresses (a POSIX regular expression, matched without
regard to case). What came in is bytes, read as the text PostgreSQL's `escape` encoding makes of them: ASCII stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class Person:
    """A contact, and every way in which we have written down how to reach them."""

    tenant_id: UUID
    contact_id: UUID
    name: str | None
    addresses: tuple[tuple[str, str], ...]  # (kind, as given or canonical)


_BY_ID = "SELECT id FROM contacts WHERE tenant_id = $1 AND id = $2"
_BY_ADDRESS = """
SELECT DISTINCT contact_id FROM contact_addresses WHERE tenant_id = $1 AND (canonical = ANY($2::text[]) OR given = $3)
"""
_NAME = "SELECT name FROM contacts WHERE tenant_id = $1 AND id = $2"
_ADDRESSES = """
SELECT kind, canonical FROM contact_addresses WHERE tenant_id = $1 AND contact_id = $2
UNION SELECT kind, given FROM contact_addresses WHERE tenant_id = $1 AND contact_id = $2
UNION SELECT 'phone', phone_number FROM contacts WHERE tenant_id = $1 AND id = $2 AND phone_number IS NOT NULL
UNION SELECT 'phone', phone FROM conversations WHERE tenant_id = $1 AND contact_id = $2 AND phone IS NOT NULL
UNION SELECT 'other', kommo_chat_id FROM conversations
    WHERE tenant_id = $1 AND contact_id = $2 AND kommo_chat_id IS NOT NULL
"""


async def find(
    pool: Pool, tenant_id: UUID, contact_id: UUID | None, canonical: Sequence[str], given: str
) -> list[UUID]:
    """Contacts with this id or one of these addresses, deleted ones too."""
    if contact_id is not None:
        return [row["id"] for row in await pool.fetch(_BY_ID, tenant_id, contact_id)]
    return [row["contact_id"] for row in await pool.fetch(_BY_ADDRESS, tenant_id, list(canonical), given)]


async def person(connection: Connection | Pool, tenant_id: UUID, contact_id: UUID) -> Person:
    """The contact with all its addresses. It must exist."""
    name = await connection.fetchval(_NAME, tenant_id, contact_id)
    rows = await connection.fetch(_ADDRESSES, tenant_id, contact_id)
    return Person(tenant_id, contact_id, name, tuple(sorted((row["kind"], row[1]) for row in rows)))


# -- removing ----------------------------------------------------------------------------------------------------------

_TALK = "SELECT id FROM conversations WHERE tenant_id = $1 AND contact_id = $2 ORDER BY id FOR UPDATE"

# In this order. $1 is the tenant; what follows it stands beside the statement.
_REMOVALS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("messages", "DELETE FROM messages WHERE tenant_id = $1 AND conversation_id = ANY($2::uuid[])", ("talk",)),
    (
        "sessions",
        """DELETE FROM sessions WHERE tenant_id = $1
            AND (contact_id = $2 OR conversation_id = ANY($3::uuid[]) OR phone_number ~* $4)""",
        ("contact", "talk", "pattern"),
    ),
    ("conversations", "DELETE FROM conversations WHERE tenant_id = $1 AND id = ANY($2::uuid[])", ("talk",)),
    ("campaign_recipients", "DELETE FROM campaign_recipients WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("consents", "DELETE FROM consents WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("group_contacts", "DELETE FROM group_contacts WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("contact_addresses", "DELETE FROM contact_addresses WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("contacts", "DELETE FROM contacts WHERE tenant_id = $1 AND id = $2", ("contact",)),
    (
        "events",
        "DELETE FROM events WHERE tenant_id = $1 AND (contact_id = $2 OR conversation_id = ANY($3::uuid[]))",
        ("contact", "talk"),
    ),
    # A webhook's id stays in inbound_keys: one that is delivered again is still known, and not kept anew.
    (
        "inbound_log",
        """DELETE FROM inbound_log WHERE (tenant_id = $1 OR (tenant_id IS NULL AND endpoint_id IN (
                SELECT endpoint_id FROM channels WHERE tenant_id = $1)))
            AND (encode(body, 'escape') ~* $2 OR url ~* $2 OR headers::text ~* $2)""",
        ("pattern",),
    ),
    (
        "webhook_logs",
        """UPDATE webhook_logs SET payload = '{}', response = NULL, error_message = NULL
            WHERE tenant_id = $1 AND (payload::text ~* $2 OR response ~* $2 OR error_message ~* $2)""",
        ("pattern",),
    ),
    (
        "idempotency_keys",
        "UPDATE idempotency_keys SET response = '{}' WHERE tenant_id = $1 AND response::text ~* $2",
        ("pattern",),
    ),
)


async def erase(connection: Connection, person: Person, pattern: str) -> dict[str, int]:
    """Remove or blank every trace, in the caller's transaction; returns rows by table."""
    talk = [row["id"] for row in await connection.fetch(_TALK, person.tenant_id, person.contact_id)]
    values = {"contact": person.contact_id, "talk": talk, "pattern": pattern}
    done: dict[str, int] = {}
    for table, statement, names in _REMOVALS:
        told = await connection.execute(statement, person.tenant_id, *(values[name] for name in names))
        done[table] = int(told.split()[-1])
    return done


# -- the proof ---------------------------------------------------------------------------------------------------------

# Every column that can hold words or bytes, of every table of ours; partitions are searched through their parent.
_COLUMNS = """
SELECT c.relname AS table_name, array_agg(a.attname::text ORDER BY a.attnum) AS columns,
    array_agg(format_type(a.atttypid, NULL) ORDER BY a.attnum) AS types,
    EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id') AS of_tenant
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped
    AND format_type(a.atttypid, NULL) IN ('text', 'text[]', 'jsonb', 'json', 'bytea', 'character varying')
    AND has_table_privilege(c.oid, 'SELECT')
GROUP BY c.oid, c.relname ORDER BY c.relname
"""


async def traces(pool: Pool, tenant_id: UUID, pattern: str) -> dict[str, int]:
    """Table → rows of this tenant (or of nobody) in which the pattern is found, in whatever column. Reads it all."""
    found: dict[str, int] = {}
    for table in await pool.fetch(_COLUMNS):
        texts = [
            f"encode(\"{name}\", 'escape')" if kind == "bytea" else f'"{name}"::text'
            for name, kind in zip(table["columns"], table["types"], strict=True)
        ]
        anywhere = " OR ".join(f"{text} ~* $1" for text in texts)
        whose = " AND (tenant_id = $2 OR tenant_id IS NULL)" if table["of_tenant"] else " AND $2::uuid IS NOT NULL"
        query = f'SELECT count(*) FROM "{table["table_name"]}" WHERE ({anywhere}){whose}'
        found[table["table_name"]] = await pool.fetchval(query, pattern, tenant_id, timeout=3600)
    return found
