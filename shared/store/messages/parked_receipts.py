"""message_statuses without a message: receipts that came before their message, applied once it is here."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.model import Receipt
from shared.store.by_key import only_if
from shared.store.messages.delivery_receipts import IncomingReceipt

PARKED_FOR = timedelta(hours=24)  # how long a receipt waits for its message
PARKED_AT_ONCE = 5000  # of the newest, read at once

# Runs at every tick. Another system's receipts on the same number would stay for ever; a message that comes at all
# comes soon. So only the newest receipts of a day are read, by the index of parked receipts. Each tenant has its turn,
# so that one that holds locks does not delay the others.
_WITH_MESSAGE = """
WITH parked AS MATERIALIZED (
    SELECT id, tenant_id, channel_id, external_id, status, error_code, error_message, occurred_at, received_at
    FROM message_statuses WHERE message_id IS NULL AND received_at > now() - $2::interval
    ORDER BY received_at DESC LIMIT $3
), in_turn AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY received_at) AS place FROM parked
)
SELECT s.id AS status_id, s.tenant_id, s.channel_id, s.external_id, s.status, s.error_code, s.error_message,
    s.occurred_at, s.received_at, m.id AS message_id, m.provider
FROM in_turn s
JOIN messages m ON m.tenant_id = s.tenant_id AND m.channel_id = s.channel_id AND m.external_id = s.external_id
    AND m.direction = 'outbound'
JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
ORDER BY s.place LIMIT $1 FOR NO KEY UPDATE OF c, m SKIP LOCKED
"""

# SKIP LOCKED: a tenant may be deleting its own receipts.
_HOLD = f"""
SELECT held.id FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id)
CROSS JOIN LATERAL (
    SELECT id FROM message_statuses
    WHERE tenant_id = asked.tenant_id AND id = asked.id AND {only_if("message_id IS NULL")}
    FOR NO KEY UPDATE SKIP LOCKED
) AS held
"""

_ADOPT = f"""
UPDATE message_statuses SET message_id = $3 WHERE tenant_id = $1 AND id = $2 AND {only_if("message_id IS NULL")}
"""

_COUNT = """
SELECT count(*) FROM message_statuses WHERE message_id IS NULL AND received_at > now() - $1::interval
"""

_FORGET = """
DELETE FROM message_statuses WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM message_statuses
    WHERE message_id IS NULL AND received_at < now() - make_interval(days => $1) ORDER BY received_at LIMIT $2
    FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class Parked:
    """A receipt that was parked and whose message has come."""

    status_id: UUID
    message_id: UUID
    incoming: IncomingReceipt


async def with_message(connection: Connection, limit: int) -> list[Parked]:
    """Parked receipts whose message exists by now, each tenant's oldest first; locked with their message and
    conversation, without those that are locked."""
    rows = await connection.fetch(_WITH_MESSAGE, limit, PARKED_FOR, PARKED_AT_ONCE)
    held = await connection.fetch(_HOLD, [row["tenant_id"] for row in rows], [row["status_id"] for row in rows])
    ours = {row["id"] for row in held}
    return [
        Parked(
            row["status_id"],
            row["message_id"],
            IncomingReceipt(
                row["tenant_id"],
                row["channel_id"],
                row["provider"],
                Receipt(
                    external_id=row["external_id"],
                    status=row["status"],
                    message_id=row["message_id"],
                    error_code=row["error_code"],
                    error_message=row["error_message"],
                    timestamp=row["occurred_at"],
                ),
                row["received_at"],
            ),
        )
        for row in rows
        if row["status_id"] in ours
    ]


async def adopt(connection: Connection, parked: Parked) -> None:
    """Tie a parked receipt to its message."""
    await connection.execute(_ADOPT, parked.incoming.tenant_id, parked.status_id, parked.message_id)


async def count(pool: Connection | Pool) -> int:
    """Receipts that wait for their message."""
    waiting: int = await pool.fetchval(_COUNT, PARKED_FOR)
    return waiting


async def forget(connection: Connection, days: int, limit: int) -> int:
    """Forget receipts parked for more than so many days, at most `limit` of them; returns how many."""
    return int((await connection.execute(_FORGET, days, limit)).split()[-1])
