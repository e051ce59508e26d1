"""Empties deliveries that hold an erased person's words: what was sent, what the answers said, what they were about.

An emptied delivery has `erased` in its `metadata`. One that was still owed is failed, and is not sent any more; nor is
one that is replayed. Whoever records an attempt leaves an emptied delivery alone: the attempt may have begun before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool

ERASED: Final = "erased"  # in `metadata`, and the error of a delivery that is failed by it

# A delivery may hold the person's words, and name them only by the ids of the contact and the conversation.
FIND: Final = """
SELECT id FROM webhook_logs
WHERE tenant_id = $1 AND (payload::text ~* $2 OR response ~* $2 OR error_message ~* $2 OR attempts::text ~* $2
    OR metadata::text ~* $2 OR conversation_id = ANY($3::uuid[]))
ORDER BY id
"""
_FIND_SINCE: Final = f"""
SELECT l.id FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT id FROM webhook_logs
    WHERE webhook_id = w.id AND tenant_id = w.tenant_id AND created_at >= $4 AND NOT metadata ? '{ERASED}'
        AND (payload::text ~* $2 OR response ~* $2 OR attempts::text ~* $2 OR conversation_id = ANY($3::uuid[]))
) AS l
WHERE w.tenant_id = $1 ORDER BY l.id
"""
# An attempt keeps its time, status and error, which is a code. Locked in the order in which all lock them.
EMPTY: Final = f"""
WITH found AS (
    SELECT tenant_id, id, success IS NULL AND (due_at IS NOT NULL OR held IS NOT NULL OR replay_at IS NOT NULL) AS owed
    FROM webhook_logs WHERE tenant_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE webhook_logs AS l SET
    payload = '{{}}', response = NULL, metadata = '{{"{ERASED}": true}}',
    attempts = coalesce((
        SELECT jsonb_agg(a.attempt - 'response' ORDER BY a.n)
        FROM jsonb_array_elements(l.attempts) WITH ORDINALITY AS a (attempt, n)), '[]'),
    error_message = CASE WHEN f.owed THEN '{ERASED}' END,
    success = CASE WHEN f.owed THEN false ELSE l.success END,
    completed_at = CASE WHEN f.owed THEN now() ELSE l.completed_at END,
    due_at = NULL, held = NULL, replay_at = NULL, replay_kind = NULL
FROM found AS f WHERE l.tenant_id = f.tenant_id AND l.id = f.id
"""
# Matching locks its place as its transaction begins, so this waits for the one that goes on.
_MATCHED: Final = (
    "SELECT FROM webhook_cursor FOR SHARE",
    "SELECT FROM webhook_behind WHERE tenant_id = $1 FOR SHARE",
)


async def empty_later_ones(
    pool: Pool, tenant_id: UUID, known_by: str, conversations: Sequence[UUID], since: datetime
) -> int:
    """Empty the deliveries that were made while their person was being erased; returns how many.

    Call it after the erasure's commit. `known_by` is a pattern, with the ids of the contact and its conversations.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetch(_MATCHED[0])
        await connection.fetch(_MATCHED[1], tenant_id)
    found = [row["id"] for row in await pool.fetch(_FIND_SINCE, tenant_id, known_by, list(conversations), since)]
    return await _empty(pool, tenant_id, found) if found else 0


async def _empty(connection: Connection | Pool, tenant_id: UUID, deliveries: Sequence[UUID]) -> int:
    return int((await connection.execute(EMPTY, tenant_id, list(deliveries))).split()[-1])
