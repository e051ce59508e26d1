"""expiring_windows: for which 24-hour window the event `window.expiring` is recorded, of each conversation."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection
from shared.domain.channels import MOST_EXPIRING_MINUTES, WindowSettings

# Each channel has a setting of its own: of each an index scan over the windows that have come near their end within the
# last $4. `IS TRUE` keeps the planner from the index of addresses, which would read the whole channel. A row that
# another transaction has locked is about to change, and is looked at again. The upsert's condition lets one of several
# clocks have a window.
_NOTE = """
WITH channel AS (
    SELECT tenant_id, id, now() - (window_closes_at(now()) - now()) AS closing, make_interval(mins => least(greatest(
        CASE jsonb_typeof(settings #> '{window,expiring_minutes}') WHEN 'number'
            THEN (settings #>> '{window,expiring_minutes}')::numeric ELSE $2::int END, 0), $3::int)::int) AS ahead
    FROM channels WHERE kind = 'whatsapp' AND deleted_at IS NULL
), expiring AS (
    SELECT found.* FROM channel CROSS JOIN LATERAL (
        SELECT c.tenant_id, c.channel_id, c.id, c.last_user_message_at AS opened_at
        FROM conversations c
        WHERE c.tenant_id = channel.tenant_id AND (c.channel_id = channel.id) IS TRUE AND c.deleted_at IS NULL
            AND c.last_user_message_at > channel.closing + greatest(channel.ahead - $4::interval, interval '0')
            AND c.last_user_message_at <= channel.closing + channel.ahead
            AND NOT EXISTS (
                SELECT FROM expiring_windows w
                WHERE w.tenant_id = c.tenant_id AND w.conversation_id = c.id AND w.opened_at = c.last_user_message_at)
        ORDER BY c.last_user_message_at LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED
    ) AS found LIMIT $1
), noted AS (
    INSERT INTO expiring_windows AS w (tenant_id, conversation_id, opened_at)
    SELECT tenant_id, id, opened_at FROM expiring ORDER BY tenant_id, id
    ON CONFLICT (tenant_id, conversation_id) DO UPDATE SET opened_at = EXCLUDED.opened_at
        WHERE w.opened_at <> EXCLUDED.opened_at
    RETURNING tenant_id, conversation_id
)
SELECT tenant_id, channel_id, id AS conversation_id, window_closes_at(opened_at) AS closes_at
FROM expiring WHERE (tenant_id, id) IN (SELECT tenant_id, conversation_id FROM noted)
"""


@dataclass(frozen=True, slots=True)
class ExpiringWindow:
    """A window that closes soon, of which no event says so yet."""

    tenant_id: UUID
    channel_id: UUID
    conversation_id: UUID
    closes_at: datetime


async def note(connection: Connection, within: timedelta, limit: int) -> list[ExpiringWindow]:
    """Windows that have come near their end within this time, as their channel's setting has it; each comes once.

    The caller records their events in the same transaction.
    """
    rows = await connection.fetch(_NOTE, limit, WindowSettings().expiring_minutes, MOST_EXPIRING_MINUTES, within)
    return [ExpiringWindow(**row) for row in rows]
