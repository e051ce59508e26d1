"""Erases a person: deletes their rows and raw webhooks, blanks mentions in other rows, and searches for what is left.

Mentions in free text are found by a pattern over the person's addresses (a POSIX regular expression, matched without
regard to case). Raw webhooks are bytes, searched as the text that PostgreSQL's `escape` encoding makes of them: ASCII
stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.store.webhook_deliveries import erased

LONGEST_SEARCH: Final = 3600  # seconds, of one table


@dataclass(frozen=True, slots=True)
class Person:
    """A contact with all addresses that are stored for it."""

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


# -- finding what mentions them ----------------------------------------------------------------------------------------

# Columns whose text others may have written about the person. Matches are blanked, in JSON by a digit, which is valid
# within a string and as a number.
_WORDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {  # table → columns of text, columns of JSON
    "campaign_recipients": (("error_message", "address"), ("message_data",)),
    "campaigns": (("name", "message"), ("variables", "message_data", "media", "interactive")),
    "consents": ((), ("evidence",)),
    "contacts": (("name",), ()),
    "conversations": (("contact_name", "ai_context_summary"), ("metadata",)),
    "groups": (("name", "description"), ()),
    "media": (("url", "filename"), ()),
    "message_statuses": (("error_message",), ()),
    "message_templates": (("name", "content"), ("variables",)),
    "messages": (
        ("content", "contact_name", "error_message"),
        ("media", "metadata", "template", "sent_as", "ai_metadata"),
    ),
    "sessions": ((), ("context_data",)),
}
_MENTIONS: Final = {
    table: f"SELECT id FROM {table} WHERE tenant_id = $1 AND ("
    + " OR ".join(f"{column}::text ~* $2" for column in (*texts, *documents))
    + ") ORDER BY id"
    for table, (texts, documents) in _WORDS.items()
}
_BLANK: Final = {
    table: f"UPDATE {table} SET "
    + ", ".join(
        [f"{column} = regexp_replace({column}, $3, '***', 'gi')" for column in texts]
        + [f"{column} = regexp_replace({column}::text, $3, '0', 'gi')::jsonb" for column in documents]
    )
    + " WHERE tenant_id = $1 AND id = ANY($2::uuid[])"
    for table, (texts, documents) in _WORDS.items()
}
_WEBHOOKS = """
SELECT id, created_at FROM inbound_log
WHERE (tenant_id = $1 OR (tenant_id IS NULL AND endpoint_id IN (SELECT endpoint_id FROM channels WHERE tenant_id = $1)))
    AND (encode(body, 'escape') ~* $2 OR url ~* $2 OR headers::text ~* $2)
"""
_CONVERSATION_IDS = "SELECT id FROM conversations WHERE tenant_id = $1 AND contact_id = $2"


@dataclass(frozen=True, slots=True)
class Mentions:
    """What a search found of a person before anything was changed."""

    words: Mapping[str, list[UUID]]  # table → rows whose words mention them
    webhooks: list[tuple[bytes, datetime]]  # inbound_log's keys
    deliveries: list[UUID]  # of webhook_logs
    known_by: str  # the pattern, and the ids of the contact and of the conversations
    conversations: list[UUID]
    searched_at: datetime  # by the database's clock


async def mentions(pool: Pool, person: Person, pattern: str) -> Mentions:
    """Find what mentions the person; reads every row of the tenant.

    Call it before the transaction that erases: no event is published while a long transaction runs.
    """
    searched_at = await pool.fetchval("SELECT now()")
    conversations = [row["id"] for row in await pool.fetch(_CONVERSATION_IDS, person.tenant_id, person.contact_id)]
    known_by = "|".join([pattern, *(str(each) for each in (person.contact_id, *conversations))])
    words = {
        table: [row["id"] for row in await pool.fetch(query, person.tenant_id, pattern, timeout=LONGEST_SEARCH)]
        for table, query in _MENTIONS.items()
    }
    webhooks = await pool.fetch(_WEBHOOKS, person.tenant_id, pattern, timeout=LONGEST_SEARCH)
    deliveries = await pool.fetch(erased.FIND, person.tenant_id, known_by, conversations, timeout=LONGEST_SEARCH)
    return Mentions(
        words,
        sorted((row["id"], row["created_at"]) for row in webhooks),
        [row["id"] for row in deliveries],
        known_by,
        conversations,
        searched_at,
    )


# -- removing ----------------------------------------------------------------------------------------------------------

_LOCK_CONVERSATIONS = "SELECT id FROM conversations WHERE tenant_id = $1 AND contact_id = $2 ORDER BY id FOR UPDATE"

# In this order. $1 is the tenant; the names of the other parameters are beside the statement.
_REMOVALS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    # The same commit makes their copies in the blob store due to be deleted, by the trigger of 0015_media.
    (
        "media",
        """DELETE FROM media f USING messages m
            WHERE m.tenant_id = $1 AND m.conversation_id = ANY($2::uuid[])
                AND f.tenant_id = $1 AND f.message_id = m.id""",
        ("conversations",),
    ),
    ("messages", "DELETE FROM messages WHERE tenant_id = $1 AND conversation_id = ANY($2::uuid[])", ("conversations",)),
    (
        "sessions",
        """DELETE FROM sessions WHERE tenant_id = $1
            AND (contact_id = $2 OR conversation_id = ANY($3::uuid[]) OR phone_number ~* $4)""",
        ("contact", "conversations", "pattern"),
    ),
    ("conversations", "DELETE FROM conversations WHERE tenant_id = $1 AND id = ANY($2::uuid[])", ("conversations",)),
    ("campaign_recipients", "DELETE FROM campaign_recipients WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    (
        "campaigns",
        """UPDATE campaigns SET recipient_ids = array_remove(recipient_ids, $2), message_data = message_data - $2::text
            WHERE tenant_id = $1 AND ($2 = ANY(recipient_ids) OR message_data ? $2::text)""",
        ("contact",),
    ),
    ("consents", "DELETE FROM consents WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("group_contacts", "DELETE FROM group_contacts WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("contact_addresses", "DELETE FROM contact_addresses WHERE tenant_id = $1 AND contact_id = $2", ("contact",)),
    ("contacts", "DELETE FROM contacts WHERE tenant_id = $1 AND id = $2", ("contact",)),
    (
        "import_aliases",
        "DELETE FROM import_aliases WHERE tenant_id = $1 AND (our_id = $2 OR our_id = ANY($3::uuid[]))",
        ("contact", "conversations"),
    ),
    (
        "events",
        "DELETE FROM events WHERE tenant_id = $1 AND (contact_id = $2 OR conversation_id = ANY($3::uuid[]))",
        ("contact", "conversations"),
    ),
    # A webhook's id stays in inbound_keys, so that a repeated delivery is still known and not stored again.
    (
        "inbound_log",
        """DELETE FROM inbound_log AS l USING unnest($2::bytea[], $3::timestamptz[]) AS found (id, created_at)
            WHERE (l.tenant_id = $1 OR l.tenant_id IS NULL) AND l.id = found.id AND l.created_at = found.created_at""",
        ("webhooks", "webhook_times"),
    ),
    ("webhook_logs", erased.EMPTY, ("deliveries",)),
    # A client's key may contain the number. The row stays, so that its request is not carried out twice.
    (
        "idempotency_keys",
        """UPDATE idempotency_keys SET response = CASE WHEN response IS NOT NULL THEN '{}'::jsonb END,
                key = CASE WHEN key ~* $2 THEN 'erased ' || gen_random_uuid() ELSE key END
            WHERE tenant_id = $1 AND (response::text ~* $2 OR key ~* $2)""",
        ("known_by",),
    ),
)


async def erase(connection: Connection, person: Person, pattern: str, found: Mentions) -> dict[str, int]:
    """Delete the person's rows and blank mentions in other rows, in the caller's transaction; returns rows by table."""
    conversations = [
        row["id"] for row in await connection.fetch(_LOCK_CONVERSATIONS, person.tenant_id, person.contact_id)
    ]
    values = {
        "contact": person.contact_id,
        "conversations": conversations,
        "pattern": pattern,
        "known_by": found.known_by,
        "webhooks": [key for key, _ in found.webhooks],
        "webhook_times": [created_at for _, created_at in found.webhooks],
        "deliveries": found.deliveries,
    }
    done: dict[str, int] = {}
    for table, statement, names in _REMOVALS:
        tag = await connection.execute(statement, person.tenant_id, *(values[name] for name in names))
        done[table] = int(tag.split()[-1])
    for table, ids in found.words.items():
        tag = await connection.execute(_BLANK[table], person.tenant_id, ids, pattern)
        done[table] = done.get(table, 0) + int(tag.split()[-1])
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
    """Table → rows of this tenant (or of none) that match the pattern in any column. Reads the whole database."""
    found: dict[str, int] = {}
    for table in await pool.fetch(_COLUMNS):
        texts = [
            f"encode(\"{name}\", 'escape')" if kind == "bytea" else f'"{name}"::text'
            for name, kind in zip(table["columns"], table["types"], strict=True)
        ]
        anywhere = " OR ".join(f"{text} ~* $1" for text in texts)
        whose = " AND (tenant_id = $2 OR tenant_id IS NULL)" if table["of_tenant"] else " AND $2::uuid IS NOT NULL"
        query = f'SELECT count(*) FROM "{table["table_name"]}" WHERE ({anywhere}){whose}'
        found[table["table_name"]] = await pool.fetchval(query, pattern, tenant_id, timeout=LONGEST_SEARCH)
    return found
