"""Contacts, conversations, messages and events of one tenant, made by the database itself: as many as a row asks for.

Every row follows from its number, so that what a page begins with is known without looking: `id_of`, `moment_of`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql

from ops.demo.twilio import DEMO

AT_ONCE: Final = 500_000  # rows a transaction
SPAN: Final = timedelta(days=300)  # over which they were made
LONG: Final = 10  # every such message is of the first conversation
_TABLES: Final = ("contacts", "conversations", "messages", "events")
OTHER_CHANNEL: Final = UUID(int=77)  # at Meta, which few of the conversations are on

_CHANNEL = """
INSERT INTO channels (id, tenant_id, endpoint_id, provider, kind, address, credentials)
SELECT %(meta)s, tenant_id, endpoint_id, 'meta', kind, '+14155230000', '' FROM channels WHERE id = %(channel)s
"""
# Of 20 contacts one is not active, and one is deleted.
_CONTACTS = """
INSERT INTO contacts (id, tenant_id, phone_number, name, is_active, created_at, deleted_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, %(tenant)s, '+34' || 600000000 + n, 'Ana Name ' || n, n %% 20 <> 7,
    %(began)s + n * %(step)s, CASE n %% 20 WHEN 3 THEN now() END
FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
_ADDRESSES = """
INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
SELECT tenant_id, 'phone', phone_number, phone_number, id FROM contacts
"""
# One for each contact; of 20 one waits for a person, two are closed and two are on the other channel.
_CONVERSATIONS = """
INSERT INTO conversations (id, tenant_id, contact_id, channel_id, provider, address, recipient, phone, contact_name,
    status, last_message_at, last_user_message_at, next_out_seq, created_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, %(tenant)s, lpad(to_hex(n), 32, '0')::uuid,
    CASE WHEN n %% 10 = 5 THEN %(meta)s ELSE %(channel)s END, CASE WHEN n %% 10 = 5 THEN 'meta' ELSE 'twilio' END,
    '+34' || 600000000 + n, '+34' || 600000000 + n, '+34' || 600000000 + n, 'Ana Name ' || n,
    CASE WHEN n %% 20 = 4 THEN 'escalated' WHEN n %% 10 = 8 THEN 'closed' ELSE 'active' END,
    %(began)s + n * %(step)s, %(began)s + n * %(step)s, 1000000000, %(began)s + n * %(step)s
FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
# A customer's message, our answer, and so on; of 20 one failed. Each tenth is of the first conversation.
_MESSAGES = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
    external_id, dedupe_key, out_seq, received_at, created_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, %(tenant)s, lpad(to_hex(talk), 32, '0')::uuid,
    CASE WHEN talk %% 10 = 5 THEN %(meta)s ELSE %(channel)s END, CASE WHEN talk %% 10 = 5 THEN 'meta' ELSE 'twilio' END,
    CASE WHEN ours THEN 'outbound' ELSE 'inbound' END, CASE WHEN ours THEN 'assistant' ELSE 'user' END,
    CASE WHEN NOT ours THEN 'received' WHEN n %% 20 = 9 THEN 'failed' ELSE 'delivered' END,
    repeat('hola, quería preguntar por el pedido ', 1 + (n %% 4)::int) || n, 'SM' || lpad(to_hex(n), 32, '0'),
    CASE WHEN ours THEN 'reply:' || n END, CASE WHEN ours THEN n END, %(began)s + n * %(step)s, %(began)s + n * %(step)s
FROM generate_series(%(first)s::bigint, %(last)s) AS n, LATERAL (SELECT n %% 2 = 1 AS ours,
    CASE WHEN n %% %(long)s = 0 THEN 1 ELSE 1 + (n * 7919) %% %(talks)s END AS talk) AS made
"""
_EVENTS = """
INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id)
SELECT CASE WHEN n %% 20 = 9 THEN 'message.held' ELSE 'message.received' END, %(tenant)s, %(channel)s,
    lpad(to_hex(1 + n %% %(talks)s), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid
FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """How much one database holds. The rows of each table are numbered from 1, the oldest first."""

    contacts: int  # and as many conversations
    messages: int
    events: int
    began: datetime

    def rows(self, table: str) -> int:
        of = {"contacts": self.contacts, "conversations": self.contacts, "messages": self.messages}
        return of.get(table, self.events)

    def step(self, table: str) -> timedelta:
        return timedelta(microseconds=SPAN // timedelta(microseconds=1) // self.rows(table))

    def position(self, table: str, number: int) -> tuple[datetime, UUID]:
        """What a list is sorted by, of the row with this number."""
        return self.began + number * self.step(table), id_of(number)


def id_of(number: int) -> UUID:
    return UUID(int=number)


def store(url: str, contacts: int, messages: int) -> Stored:
    """Fill a fresh database, as a superuser: without triggers and foreign keys, and its indexes made at the end."""
    stored = Stored(contacts, messages, max(1000, messages // 10), datetime.now(UTC) - SPAN - timedelta(minutes=1))
    about = {
        "tenant": DEMO.tenant_id,
        "channel": DEMO.channel_id,
        "meta": OTHER_CHANNEL,
        "talks": contacts,
        "long": LONG,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("ALTER SYSTEM SET fsync = off")  # it is no promise to anyone
        connection.execute("SELECT pg_reload_conf()")
        try:
            connection.execute(_CHANNEL, about)
            indexes = _drop_indexes(connection)
            statements = dict(zip(_TABLES, (_CONTACTS, _CONVERSATIONS, _MESSAGES, _EVENTS), strict=True))
            for table, statement in statements.items():
                rows = stored.rows(table)
                given = about | {"began": stored.began, "step": stored.step(table)}
                for first in range(1, rows + 1, AT_ONCE):
                    connection.execute(statement, given | {"first": first, "last": min(rows, first + AT_ONCE - 1)})
            connection.execute(_ADDRESSES)
            for index in indexes:
                connection.execute(index)
            connection.execute("VACUUM (ANALYZE)")
        finally:
            connection.execute("ALTER SYSTEM RESET fsync")
            connection.execute("SELECT pg_reload_conf()")
    return stored


def _drop_indexes(connection: "psycopg.Connection[tuple[str, ...]]") -> list[sql.SQL]:
    """Drop all but the primary keys; returns the statements that make them again."""
    found = connection.execute(
        """
        SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
        WHERE i.indrelid = ANY(%s::regclass[]) AND NOT EXISTS (
            SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
        """,
        (["contacts", "conversations", "messages"],),
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}".encode())
    return [sql.SQL(definition) for _, definition in found]
