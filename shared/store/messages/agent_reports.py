"""Selects agents' messages whose delivery status has to be reported: they are `sent`, and due until the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.model import ConsentScope
from shared.queue.jobs import AgentReportDue
from shared.store.arrays import arrays
from shared.store.by_key import only_if
from shared.store.consents import STOPPED_BY
from shared.store.messages.agent_messages import AgentMessageRow

# A message that we sent has a dedupe_key, and its receipts come from the provider.
OWED_OF: Final = "status = 'sent' AND dedupe_key IS NULL"

_OWE = f"""
UPDATE messages SET due_at = clock_timestamp(), attempts = 0
WHERE (tenant_id, channel_id, external_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]))
    AND direction = 'outbound' AND {OWED_OF} AND due_at IS NULL
"""

_DUE = f"""
UPDATE messages SET due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM messages WHERE due_at <= now() AND {OWED_OF}
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, conversation_id, channel_id, id AS message_id, provider, lane
"""

_OWED = f"""
SELECT m.id, m.tenant_id, m.conversation_id, m.channel_id, m.external_id, m.attempts, {STOPPED_BY} AS stopped_by
FROM messages m WHERE m.tenant_id = $1 AND m.id = $2 AND {OWED_OF} AND {only_if("m.due_at IS NOT NULL")}
"""

_POSTPONE = f"""
UPDATE messages SET due_at = clock_timestamp() + $3::interval, attempts = attempts + $4
WHERE tenant_id = $1 AND id = $2 AND {OWED_OF} AND {only_if("due_at IS NOT NULL")}
"""


@dataclass(frozen=True, slots=True)
class OwedReport:
    """A message whose status is owed. `stopped_by`: the scope of the customer's opt-out, if any."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    external_id: str
    attempts: int
    stopped_by: ConsentScope | None


async def owe(connection: Connection, written: Sequence[AgentMessageRow]) -> None:
    """Make the reports of these messages due, whichever webhook brought them first; not those that were made before."""
    if written:
        keys = sorted({(one.tenant_id, one.channel_id, one.message.external_id) for one in written})
        await connection.execute(_OWE, *arrays(keys, 3))


async def due(connection: Connection, lease: timedelta, limit: int) -> list[AgentReportDue]:
    """Jobs for reports that are due, for the clock; each is due again a lease later."""
    return [AgentReportDue(**row) for row in await connection.fetch(_DUE, lease, limit)]


async def owed(pool: Pool, tenant_id: UUID, message_id: UUID) -> OwedReport | None:
    """The message, if its report is still owed."""
    row = await pool.fetchrow(_OWED, tenant_id, message_id)
    return None if row is None else OwedReport(**row)


async def postpone(
    connection: Connection | Pool, tenant_id: UUID, message_id: UUID, wait: timedelta | None, *, tried: bool = False
) -> None:
    """Make the report due after `wait`; with None never again. `tried`: the provider was called."""
    await connection.execute(_POSTPONE, tenant_id, message_id, wait, int(tried))
