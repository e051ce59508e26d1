"""messages from customers: inserts them, and reads a conversation's history."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import orjson

from shared.database import Connection, Pool
from shared.domain import loop_guard
from shared.domain.model import Media
from shared.store.arrays import arrays
from shared.store.events import Event, columns, record
from shared.store.messages.outbound_rows import media_json


@dataclass(frozen=True, slots=True)
class Inbound:
    """A customer's message on its way into its conversation, which the caller has locked."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    external_id: str
    message_type: str
    content: str
    received_at: datetime
    provider_timestamp: datetime | None = None
    media: tuple[Media, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    reply_to: str | None = None
    contact_name: str | None = None
    contact_id: UUID | None = None
    place: int = 0  # among all messages of its batch, in the order in which they were written


# clock_timestamp(), not now(): rows of one conversation are inserted under its lock, so the times follow the order in
# which its transactions ended; "newest message" means that. Within a batch, each message's place adds a microsecond, so
# that agents' messages, which another statement inserts (agent_messages.py), sort between customers' messages. The
# insert takes longer than a microsecond a message, so the next transaction's times are later all the same.
# A message about a customer from the network (a changed number) has the role `system`: it opens no window and is not
# answered.
# The transaction's events are inserted by the same statement: the conversations are locked meanwhile, and a round trip
# more would make others wait. So is an answer to a campaign: see store/campaigns/answers.py.
# `palomar.heard_by` switches the trigger off: `conversations.update_from_messages` makes its changes (0016_heard.sql).
_INSERT_INBOUND = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now), new AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
        $8::timestamptz[], $9::timestamptz[], $10::text[], $11::jsonb[], $12::text[], $13::text[], $14::text[],
        $15::uuid[], $16::int[])
    AS new (id, tenant_id, conversation_id, channel_id, provider, message_type, content, received_at,
        provider_timestamp, media, metadata, external_id, reply_to, contact_name, contact_id, place)
), added AS (
    INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, message_type,
        content, received_at, provider_timestamp, media, metadata, external_id, reply_to, contact_name, created_at)
    SELECT id, tenant_id, conversation_id, channel_id, provider, 'inbound',
        CASE WHEN message_type = 'system' THEN 'system' ELSE 'user' END, 'received', message_type, content,
        received_at, least(provider_timestamp, received_at), media::jsonb, metadata, external_id, reply_to,
        contact_name, (SELECT now FROM clock) + place * interval '1 microsecond'
    FROM new WHERE (SELECT set_config('palomar.heard_by', 'persist', true)) = 'persist' ORDER BY place
    ON CONFLICT (tenant_id, channel_id, external_id) WHERE external_id IS NOT NULL DO NOTHING
    RETURNING id
), recorded AS (
    INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail)
    SELECT * FROM unnest($17::text[], $18::uuid[], $19::uuid[], $20::uuid[], $21::uuid[], $22::uuid[], $23::jsonb[])
        AS made (name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail)
    UNION ALL (
        SELECT 'message.received', tenant_id, channel_id, conversation_id, id, contact_id,
            jsonb_build_object('type', message_type)
        FROM new JOIN added USING (id) ORDER BY place)
)
SELECT id, (SELECT now FROM clock) AS began,
    CASE WHEN (SELECT has_recipients($2::uuid[])) AND message_type <> 'system'
        THEN note_answer(tenant_id, contact_id, channel_id, least(provider_timestamp, received_at)) END
FROM added JOIN new USING (id)
"""


InboundRows = tuple[Sequence[object], ...]  # the columns of messages that are ready to be inserted


def inbound_rows(messages: Sequence[Inbound]) -> InboundRows:
    """What `insert_inbound` takes. It is made before anything is locked, as it takes time."""
    return (
        [m.id for m in messages],
        [m.tenant_id for m in messages],
        [m.conversation_id for m in messages],
        [m.channel_id for m in messages],
        [m.provider for m in messages],
        [m.message_type for m in messages],
        [m.content for m in messages],
        [m.received_at for m in messages],
        [m.provider_timestamp or m.received_at for m in messages],
        # As text: a list of lists would be taken for an array of two dimensions.
        [orjson.dumps([media_json(part) for part in m.media]).decode() for m in messages],
        [m.metadata for m in messages],
        [m.external_id for m in messages],
        [m.reply_to for m in messages],
        [m.contact_name for m in messages],
        [m.contact_id for m in messages],
        [m.place for m in messages],
    )


@dataclass(frozen=True, slots=True)
class Inserted:
    """The ids of the messages that were new, and the time of place 0 of their batch; None where none was."""

    ids: Set[UUID]
    began: datetime | None


async def insert_inbound(connection: Connection, rows: InboundRows, before: Sequence[Event] = ()) -> Inserted:
    """Insert each message once, however often it comes, with its event, which comes after the events `before`.

    This leaves the conversations' own rows as they were: `conversations.update_from_messages` must follow in the same
    transaction.
    """
    if not rows[0]:
        await record(connection, *before)
        return Inserted(set(), None)
    found = await connection.fetch(_INSERT_INBOUND, *rows, *columns(before))
    return Inserted({row["id"] for row in found}, found[0]["began"] if found else None)


_HISTORY = """
SELECT asked.conversation_id, m.id, m.role, m.content, m.message_type
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS asked (tenant_id, conversation_id, "limit")
CROSS JOIN LATERAL (
    SELECT id, role, left(content, 4096) AS content, message_type, created_at FROM messages
    WHERE tenant_id = asked.tenant_id AND conversation_id = asked.conversation_id
        AND status NOT IN ('failed', 'canceled', 'expired') AND role <> 'system'
    ORDER BY created_at DESC LIMIT asked."limit"
) AS m
ORDER BY asked.conversation_id, m.created_at
"""


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    id: UUID
    role: str
    content: str
    message_type: str


async def histories(
    connection: Connection | Pool, asked: Sequence[tuple[UUID, UUID, int]]
) -> dict[UUID, list[HistoryMessage]]:
    """Conversation → its last messages, oldest first; of each (tenant, conversation, how many). None is left out."""
    found: dict[UUID, list[HistoryMessage]] = {conversation_id: [] for _, conversation_id, _ in asked}
    for row in await connection.fetch(_HISTORY, *arrays(asked, 3)) if asked else ():
        message = HistoryMessage(row["id"], row["role"], row["content"], row["message_type"])
        found[row["conversation_id"]].append(message)
    return found


async def history(
    connection: Connection | Pool, tenant_id: UUID, conversation_id: UUID, limit: int
) -> list[HistoryMessage]:
    """The last messages of a conversation, oldest first."""
    return (await histories(connection, [(tenant_id, conversation_id, limit)]))[conversation_id]


_OF_LATE = """
SELECT asked.conversation_id, counted.answers, counted.repeats
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, conversation_id)
CROSS JOIN LATERAL (
    WITH late AS MATERIALIZED (
        SELECT direction, role, left(content, 500) AS content, metadata FROM messages
        WHERE tenant_id = asked.tenant_id AND conversation_id = asked.conversation_id
            AND created_at > now() - $3::interval
        ORDER BY created_at DESC LIMIT 500
    ), repeated AS (
        SELECT count(*) AS times FROM late WHERE role = 'user' AND length(content) >= $4 GROUP BY content
    )
    SELECT count(*) FILTER (WHERE direction = 'outbound' AND metadata ? 'engine') AS answers,
        coalesce((SELECT max(times) FROM repeated), 0) AS repeats
    FROM late
) AS counted
"""


async def of_late(connection: Connection, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, loop_guard.Exchange]:
    """Conversation → the latest counts of its answers and repeats, which show whether two machines answer each other;
    of these (tenant, conversation)."""
    if not keys:
        return {}
    rows = await connection.fetch(_OF_LATE, *arrays(keys, 2), loop_guard.WITHIN, loop_guard.SENTENCE)
    return {row["conversation_id"]: loop_guard.Exchange(row["answers"], row["repeats"]) for row in rows}


# Reactions, edits and revocations are not messages that can be marked as read.
_NEWEST_READABLE = """
SELECT asked.conversation_id, newest.external_id, c.last_user_message_at, now() AS now
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, conversation_id)
CROSS JOIN LATERAL (
    SELECT external_id FROM messages
    WHERE tenant_id = asked.tenant_id AND conversation_id = asked.conversation_id AND role = 'user'
        AND external_id IS NOT NULL AND message_type NOT IN ('reaction', 'edit', 'revoke')
    ORDER BY created_at DESC LIMIT 1
) AS newest
JOIN conversations c ON c.tenant_id = asked.tenant_id AND c.id = asked.conversation_id
"""


@dataclass(frozen=True, slots=True)
class NewestReadable:
    """The provider's id of the customer's newest message, when they last wrote, and the database's clock."""

    external_id: str
    last_user_message_at: datetime | None
    now: datetime


async def newest_readable(connection: Connection, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, NewestReadable]:
    """Conversation → the customer's newest message that a read receipt can name, of these (tenant, conversation);
    without those where there is none."""
    rows = await connection.fetch(_NEWEST_READABLE, *arrays(keys, 2)) if keys else []
    return {
        row["conversation_id"]: NewestReadable(row["external_id"], row["last_user_message_at"], row["now"])
        for row in rows
    }


_HOPS = """
SELECT i.received_at, i.created_at AS stored, o.created_at AS answered, o.admitted_at, o.claimed_at, o.sent_at,
    o.delivered_at
FROM messages i LEFT JOIN messages o ON o.tenant_id = i.tenant_id AND o.dedupe_key = 'reply:' || i.id
WHERE i.tenant_id = $1 AND i.channel_id = $2 AND i.external_id = $3
"""

_HOP_NAMES = {
    "received_at": "ingress had it",
    "stored": "persist stored it",
    "answered": "reply answered",
    "admitted_at": "admitted",
    "claimed_at": "send claimed",
    "sent_at": "provider accepted it",
    "delivered_at": "delivered",
}


async def hops(pool: Pool, tenant_id: UUID, channel_id: UUID, external_id: str) -> list[tuple[str, datetime]]:
    """When a customer's message and its answer passed each step, in order; without steps that have not happened."""
    row = await pool.fetchrow(_HOPS, tenant_id, channel_id, external_id)
    if row is None:
        return []
    return [(name, row[column]) for column, name in _HOP_NAMES.items() if row[column] is not None]
