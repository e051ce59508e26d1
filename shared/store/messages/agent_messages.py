"""Stores the messages that agents wrote outside of Palomar, and escalates their conversations."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from shared.database import Connection, new_id
from shared.domain.model import AgentMessage
from shared.store.messages.outbound import record_canceled
from shared.store.messages.outbound_rows import media_json


@dataclass(frozen=True, slots=True)
class AgentMessageRow:
    """An agent's message and its conversation, which the caller has locked."""

    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    message: AgentMessage
    received_at: datetime
    place: int  # among all messages of its batch, in the order in which they were written


# Messages of ours under way: the provider may have accepted them, and we don't know their ids yet.
_ECHOES = """
SELECT asked.place, under_way.id
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[])
    AS asked (place, tenant_id, channel_id, conversation_id, external_id, content)
JOIN LATERAL (
    SELECT id, content FROM messages
    WHERE tenant_id = asked.tenant_id AND conversation_id = asked.conversation_id AND status = 'sending'
        AND lane IN ('normal', 'bulk')
    UNION ALL
    SELECT id, content FROM messages
    WHERE tenant_id = asked.tenant_id AND conversation_id = asked.conversation_id AND status = 'unknown'
) AS under_way ON under_way.content = asked.content
WHERE NOT EXISTS (
    SELECT FROM messages
    WHERE tenant_id = asked.tenant_id AND channel_id = asked.channel_id AND external_id = asked.external_id)
"""

_INSERT = """
WITH new AS (
    SELECT *, row_number() OVER (PARTITION BY tenant_id, conversation_id ORDER BY place) AS nth
    FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::jsonb[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[])
        AS asked (place, id, tenant_id, conversation_id, channel_id, provider, message_type, content, media, metadata,
            external_id, reply_to, provider_timestamp, received_at)
), seats AS (
    UPDATE conversations c
    SET next_out_seq = c.next_out_seq + taken.seats, last_message_at = greatest(c.last_message_at, taken.at)
    FROM (
        SELECT tenant_id, conversation_id, count(*) AS seats, max(received_at) AS at FROM new
        GROUP BY tenant_id, conversation_id
    ) AS taken
    WHERE c.tenant_id = taken.tenant_id AND c.id = taken.conversation_id
    RETURNING c.tenant_id, c.id AS conversation_id, c.next_out_seq - taken.seats AS first
)
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, message_type,
    content, media, metadata, external_id, reply_to, provider_timestamp, received_at, sent_at, out_seq, created_at)
SELECT id, tenant_id, conversation_id, channel_id, provider, 'outbound', 'assistant', 'sent', message_type,
    content, media::jsonb, metadata, external_id, reply_to, provider_timestamp, received_at, provider_timestamp,
    first + nth - 1, coalesce($15::timestamptz, clock_timestamp()) + place * interval '1 microsecond'
FROM new JOIN seats USING (tenant_id, conversation_id) ORDER BY place
ON CONFLICT (tenant_id, channel_id, external_id) WHERE external_id IS NOT NULL DO NOTHING
RETURNING id
"""

_ESCALATE = """
UPDATE conversations SET status = 'escalated', reply_due_at = NULL, reply_wanted_since = NULL, reply_lease_id = NULL,
    reply_lease_until = NULL
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND status <> 'escalated'
RETURNING tenant_id, id
"""

# Answers of ours that have not left, held ones too: they would interfere in the agent's conversation.
_SILENCE = """
UPDATE messages SET status = 'canceled', due_at = NULL, error_code = 'escalated'
WHERE (tenant_id, conversation_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
    AND status IN ('queued', 'held', 'ready')
    AND (dedupe_key LIKE 'reply:%' OR dedupe_key LIKE 'resend:%' AND metadata ? 'engine')
RETURNING id, tenant_id, channel_id, conversation_id
"""


async def echoes(connection: Connection, written: Sequence[AgentMessageRow]) -> dict[int, list[UUID]]:
    """Place → the messages under way with the same text, of those that may be an echo of ours; without those whose id
    is known."""
    found: defaultdict[int, list[UUID]] = defaultdict(list)
    if not written:
        return {}
    rows = await connection.fetch(
        _ECHOES,
        [one.place for one in written],
        [one.tenant_id for one in written],
        [one.channel_id for one in written],
        [one.conversation_id for one in written],
        [one.message.external_id for one in written],
        [one.message.text for one in written],
    )
    for row in rows:
        found[row["place"]].append(row["id"])
    return dict(found)


async def insert(connection: Connection, written: Sequence[AgentMessageRow], began: datetime | None) -> dict[int, UUID]:
    """Insert each message once, however often it comes; returns place → id of the new ones.

    `began` is the time of place 0, where customers' messages of the same batch have their times by it (inbound.py).
    """
    once: dict[tuple[UUID, UUID, str], AgentMessageRow] = {}
    for one in written:
        once.setdefault((one.tenant_id, one.channel_id, one.message.external_id), one)
    if not once:
        return {}
    chosen = list(once.values())
    ids = [new_id() for _ in chosen]
    rows = await connection.fetch(
        _INSERT,
        [one.place for one in chosen],
        ids,
        [one.tenant_id for one in chosen],
        [one.conversation_id for one in chosen],
        [one.channel_id for one in chosen],
        [one.provider for one in chosen],
        [one.message.message_type for one in chosen],
        [one.message.text for one in chosen],
        # As text: a list of lists would be taken for an array of two dimensions.
        [orjson.dumps([media_json(part) for part in one.message.media]).decode() for one in chosen],
        [_metadata(one.message) for one in chosen],
        [one.message.external_id for one in chosen],
        [one.message.reply_to for one in chosen],
        [min(one.message.timestamp or one.received_at, one.received_at) for one in chosen],
        [one.received_at for one in chosen],
        began,
    )
    inserted = {row["id"] for row in rows}
    return {one.place: message_id for one, message_id in zip(chosen, ids, strict=True) if message_id in inserted}


def _metadata(message: AgentMessage) -> dict[str, object]:
    author = {"id": message.author_id, "name": message.author_name, "automatic": message.automatic}
    return {**message.extra, "manager": author}


async def escalate(connection: Connection, conversations: Sequence[tuple[UUID, UUID]]) -> list[tuple[UUID, UUID]]:
    """Escalate these (tenant, conversation), which the caller has locked, and cancel their answers, with their events;
    returns those that were not escalated before. An answer that an engine is making loses its lease."""
    if not conversations:
        return []
    tenants, ids = [tenant for tenant, _ in conversations], [one for _, one in conversations]
    rows = await connection.fetch(_ESCALATE, tenants, ids)
    await record_canceled(connection, await connection.fetch(_SILENCE, tenants, ids), "escalated")
    return [(row["tenant_id"], row["id"]) for row in rows]
