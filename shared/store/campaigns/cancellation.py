"""campaign_recipients and messages of a campaign that ends before all was sent: cancels what is left, bit by bit."""

from uuid import UUID

from shared.database import Connection
from shared.store.by_key import only_if
from shared.store.campaigns import pages
from shared.store.messages.outbound import record_canceled

# A message that is being sent is not taken back. If its provider refuses it, `send` cancels it.
_CANCEL_MESSAGES = f"""
UPDATE messages SET status = 'canceled', due_at = NULL, error_code = $3 WHERE (tenant_id, id) IN (
    SELECT m.tenant_id, m.id FROM campaign_recipients AS r
    JOIN messages AS m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
    WHERE r.tenant_id = $1 AND r.campaign_id = $2 AND r.status = 'queued'
        AND {only_if("m.status IN ('queued', 'held', 'ready')")}
    LIMIT $4 FOR NO KEY UPDATE OF m SKIP LOCKED)
RETURNING id, tenant_id, channel_id, conversation_id
"""


async def cancel_messages(connection: Connection, tenant_id: UUID, campaign_id: UUID, code: str, limit: int) -> int:
    """Cancel some of the campaign's messages that have not left, with their events; returns how many."""
    canceled = await connection.fetch(_CANCEL_MESSAGES, tenant_id, campaign_id, code, limit)
    await record_canceled(connection, canceled, code)
    return len(canceled)


async def cancel_pending(connection: Connection, tenant_id: UUID, campaign_id: UUID, code: str, limit: int) -> int:
    """Cancel some of the recipients that have no message; returns how many."""
    return await pages.leave_out_pending(connection, tenant_id, campaign_id, "canceled", code, limit)
