"""Deletes old messages by their tenant's policy, a bounded number at a time.

The policy is `messages_days` in the tenant's settings. It goes by conversation, as messages are indexed: a batch reads
only what it deletes, however large the table is.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain import statuses

# A value that is not a number of days, or is one of centuries, is no policy, so that no mistake deletes messages.
_POLICIES = """
SELECT id, (settings->>'messages_days')::int AS days FROM tenants
WHERE jsonb_typeof(settings->'messages_days') = 'number' AND settings->>'messages_days' ~ '^[1-9][0-9]{0,4}$'
ORDER BY id
"""

_CONVERSATIONS = """
SELECT id FROM conversations WHERE tenant_id = $1 AND id > $2 AND created_at < $3 ORDER BY id LIMIT $4
"""

# Only finished messages. SKIP LOCKED: several clocks may do this, and a receipt may be moving a message.
_PRUNE = """
DELETE FROM messages WHERE (tenant_id, id) IN (
    SELECT old.tenant_id, old.id FROM unnest($2::uuid[]) AS of (conversation_id) CROSS JOIN LATERAL (
        SELECT tenant_id, id FROM messages m
        WHERE m.conversation_id = of.conversation_id AND m.tenant_id = $1 AND m.created_at < $3
            AND m.due_at IS NULL AND m.status = ANY($4::text[])
        ORDER BY m.created_at LIMIT $5 FOR UPDATE SKIP LOCKED
    ) AS old LIMIT $5)
"""

FIRST = UUID(int=0)


async def policies(pool: Pool) -> list[tuple[UUID, int]]:
    """(tenant, days) of tenants with a policy."""
    return [(row["id"], row["days"]) for row in await pool.fetch(_POLICIES)]


async def conversations(pool: Pool, tenant_id: UUID, after: UUID, before: datetime, limit: int) -> list[UUID]:
    """The next conversations by id that may have messages from before a time."""
    return [row["id"] for row in await pool.fetch(_CONVERSATIONS, tenant_id, after, before, limit)]


async def prune(
    connection: Connection | Pool, tenant_id: UUID, of: Sequence[UUID], before: datetime, limit: int
) -> int:
    """Delete finished messages of these conversations from before a time, at most `limit`; returns how many."""
    done = await connection.execute(_PRUNE, tenant_id, list(of), before, sorted(statuses.TERMINAL), limit)
    return int(done.split()[-1])
