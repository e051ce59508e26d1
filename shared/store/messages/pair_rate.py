"""How long ago a customer was sent the last message: the provider's pair rate limit asks it for bulk messages."""

from shared.database import Pool
from shared.store.messages.outbound_rows import Outbound

# The last claimed message of either lane. In the message's own lane it is the one before it, for a lane keeps its
# order.
_SECONDS_SINCE_LAST_SEND = """
SELECT extract(epoch FROM clock_timestamp() - max(claimed_at))::float8 FROM (
    (SELECT claimed_at FROM messages
    WHERE tenant_id = $1 AND conversation_id = $2 AND lane = 'normal' AND out_seq IS NOT NULL
        AND claimed_at IS NOT NULL
    ORDER BY out_seq DESC LIMIT 1)
    UNION ALL
    (SELECT claimed_at FROM messages
    WHERE tenant_id = $1 AND conversation_id = $2 AND lane = 'bulk' AND claimed_at IS NOT NULL
        AND out_seq < (SELECT out_seq FROM messages WHERE tenant_id = $1 AND id = $3)
    ORDER BY out_seq DESC LIMIT 1)
) AS last
"""


async def seconds_since_last_send(pool: Pool, message: Outbound) -> float | None:
    """Seconds since another message was sent to the recipient of this bulk message; None where none ever was."""
    seconds: float | None = await pool.fetchval(
        _SECONDS_SINCE_LAST_SEND, message.tenant_id, message.conversation_id, message.id
    )
    return seconds
