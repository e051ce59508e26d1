"""Deletes deliveries that are over for long, and the numbers of conversations that are no more."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.database import Connection

# As the index webhook_logs_over has it: what was missed goes too, and a log that was written by SQL.
_FORGET: Final = """
DELETE FROM webhook_logs WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM webhook_logs
    WHERE due_at IS NULL AND replay_at IS NULL AND held IS DISTINCT FROM 'waiting'
        AND coalesce(completed_at, created_at) < now() - make_interval(days => $1)
    ORDER BY coalesce(completed_at, created_at) LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
# A conversation that is deleted softly may come back. OFFSET 0: a look-up by key for each of the page, whatever the
# planner thinks of all conversations.
_FORGET_SEQUENCES: Final = """
WITH page AS MATERIALIZED (
    SELECT tenant_id, webhook_id, conversation_id FROM webhook_sequences
    WHERE (tenant_id, webhook_id, conversation_id) > ($1, $2, $3)
    ORDER BY tenant_id, webhook_id, conversation_id LIMIT $4
), left_behind AS MATERIALIZED (
    SELECT p.* FROM page AS p
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM conversations WHERE tenant_id = p.tenant_id AND id = p.conversation_id OFFSET 0
    ) AS c ON true
    LEFT JOIN LATERAL (
        SELECT deleted_at FROM webhooks WHERE tenant_id = p.tenant_id AND id = p.webhook_id OFFSET 0
    ) AS w ON true
    WHERE c.is_there IS NULL OR w.deleted_at IS NOT NULL
), gone AS (
    DELETE FROM webhook_sequences AS s USING left_behind AS l
    WHERE (s.tenant_id, s.webhook_id, s.conversation_id) = (l.tenant_id, l.webhook_id, l.conversation_id)
)
SELECT tenant_id, webhook_id, conversation_id FROM page ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A row of `webhook_sequences`, by its key."""

    tenant_id: UUID
    webhook_id: UUID
    conversation_id: UUID


BEGINNING: Final = Place(UUID(int=0), UUID(int=0), UUID(int=0))


async def forget(connection: Connection, days: int, limit: int) -> int:
    """Delete deliveries that ended longer ago than so many days, at most `limit` of them; returns how many."""
    return int((await connection.execute(_FORGET, days, limit)).split()[-1])


async def forget_sequences(connection: Connection, after: Place, limit: int) -> Place | None:
    """Of the next `limit` numbers behind `after` delete those of deleted conversations and webhooks.

    Returns the last place that was looked at; None where there is none.
    """
    row = await connection.fetchrow(_FORGET_SEQUENCES, after.tenant_id, after.webhook_id, after.conversation_id, limit)
    return None if row is None else Place(**row)
