"""messages that answer customers at once: many of them, with all that they change in their conversations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.database import Connection
from shared.store.by_key import only_if


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer to the customer's message `answers`. `user_message_count`: how many of the customer's messages it
    answers, with all those before it. `admitted`: the rules of admission let it leave."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    answers: UUID
    content: str
    metadata: Mapping[str, object]
    user_message_count: int
    admitted: bool


# One update of the conversation: its place in the lane, and that no reply is owed. LIMIT 1: one look-up for each. A
# message that waits for the window's decision leaves first, so that what comes behind it waits too.
_ADD = f"""
WITH answer AS MATERIALIZED (
    SELECT given.*, known.id IS NULL AS is_new,
        CASE WHEN admitted AND before.id IS NULL THEN 'ready' ELSE 'queued' END AS status
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
        $9::bigint[], $10::bool[])
        AS given (id, tenant_id, conversation_id, channel_id, provider, dedupe_key, content, metadata,
            user_message_count, admitted)
    LEFT JOIN LATERAL (
        SELECT id FROM messages WHERE tenant_id = given.tenant_id AND dedupe_key = given.dedupe_key LIMIT 1
    ) AS known ON true
    LEFT JOIN LATERAL (
        SELECT id FROM messages
        WHERE tenant_id = given.tenant_id AND conversation_id = given.conversation_id AND lane = 'normal'
            AND status IN ('queued', 'ready', 'sending') AND {only_if("status = 'queued'")}
        LIMIT 1
    ) AS before ON true
), place AS (
    UPDATE conversations c SET reply_due_at = NULL, reply_wanted_since = NULL, reply_lease_id = NULL,
        reply_lease_until = NULL, reply_restored_at = NULL,
        answered_count = greatest(c.answered_count, answer.user_message_count),
        next_out_seq = c.next_out_seq + answer.is_new::int,
        last_message_at = CASE WHEN answer.is_new THEN greatest(c.last_message_at, now()) ELSE c.last_message_at END
    FROM answer WHERE c.tenant_id = answer.tenant_id AND c.id = answer.conversation_id
    RETURNING c.id, c.next_out_seq - 1 AS out_seq
), added AS (
    INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, dedupe_key,
        content, metadata, due_at, admitted_at, out_seq, created_at)
    SELECT answer.id, tenant_id, conversation_id, channel_id, provider, 'outbound', 'assistant', status, dedupe_key,
        content, metadata, now() + $11::interval, CASE status WHEN 'ready' THEN clock_timestamp() END, out_seq,
        clock_timestamp()
    FROM answer JOIN place ON place.id = answer.conversation_id WHERE is_new
    ON CONFLICT (tenant_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
    RETURNING id, tenant_id, channel_id, conversation_id, status
), recorded AS (
    INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id)
    SELECT 'message.queued', tenant_id, channel_id, conversation_id, id FROM added
)
SELECT id, status FROM added
"""


async def add(connection: Connection, answers: Sequence[NewAnswer], handoff: timedelta) -> dict[UUID, str]:
    """Add answers at the ends of their lanes, each with its event; no reply is owed for what they answer.

    The caller has locked the conversations, each of which gets one answer, and publishes the jobs after the commit; the
    rows are due again a handoff lease later. Returns the states of those that were added, `ready` or `queued`, by their
    ids: a message has one answer.
    """
    if not answers:
        return {}
    rows = await connection.fetch(
        _ADD,
        [one.id for one in answers],
        [one.tenant_id for one in answers],
        [one.conversation_id for one in answers],
        [one.channel_id for one in answers],
        [one.provider for one in answers],
        [f"reply:{one.answers}" for one in answers],
        [one.content.replace("\0", "\ufffd") for one in answers],
        [one.metadata for one in answers],
        [one.user_message_count for one in answers],
        [one.admitted for one in answers],
        handoff,
    )
    return {row["id"]: row["status"] for row in rows}
