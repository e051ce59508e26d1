"""expiring_windows: for which 24-hour window the event `window.expiring` is recorded, of each conversation."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.channels import MOST_EXPIRING_MINUTES, WindowSettings

MOST_READ: Final = 10_000  # of a tenant's windows by one look


def _ahead(channel: str) -> str:
    """SQL of how long before a window's end the event comes, by a channel's setting, which SQL may have written."""
    setting = "{window,expiring_minutes}"
    return f"""make_interval(mins => least(greatest(CASE jsonb_typeof({channel}.settings #> '{setting}')
        WHEN 'number' THEN ({channel}.settings #>> '{setting}')::numeric ELSE $2::int END, 0), $3::int)::int)"""


# For each setting that a tenant's channels have: an index scan over the tenant's windows that have come near their end
# within the last $4. A tenant's scans together read MOST_READ windows at most, and tenants take turns for the $1 that
# are noted: one with a million windows, or a thousand channels, delays no other tenant's events. A row that another
# transaction has locked is about to change, and is looked at again. The upsert's condition lets one of several clocks
# have a window.
_NOTE = f"""
WITH scan AS (
    SELECT tenant_id, ahead, now() - (window_closes_at(now()) - now()) AS closing,
        greatest($5 / count(*) OVER (PARTITION BY tenant_id), 1) AS most
    FROM (
        SELECT DISTINCT tenant_id, {_ahead("k")} AS ahead FROM channels k WHERE kind = 'whatsapp' AND deleted_at IS NULL
    ) AS asked
), expiring AS (
    SELECT found.*, row_number() OVER (PARTITION BY found.tenant_id ORDER BY found.opened_at) AS turn
    FROM scan CROSS JOIN LATERAL (
        SELECT near.tenant_id, near.id, near.last_user_message_at AS opened_at
        FROM (
            SELECT tenant_id, channel_id, id, last_user_message_at FROM conversations
            WHERE tenant_id = scan.tenant_id AND deleted_at IS NULL
                AND last_user_message_at > scan.closing + greatest(scan.ahead - $4::interval, interval '0')
                AND last_user_message_at <= scan.closing + scan.ahead
            ORDER BY last_user_message_at LIMIT scan.most
        ) AS near
        JOIN channels via ON via.tenant_id = near.tenant_id AND via.id = near.channel_id
            AND via.kind = 'whatsapp' AND via.deleted_at IS NULL AND {_ahead("via")} = scan.ahead
        WHERE NOT EXISTS (
            SELECT FROM expiring_windows w
            WHERE w.tenant_id = near.tenant_id AND w.conversation_id = near.id
                AND w.opened_at = near.last_user_message_at)
    ) AS found
), free AS (
    SELECT c.tenant_id, c.channel_id, c.id, c.last_user_message_at AS opened_at
    FROM (SELECT * FROM expiring ORDER BY turn LIMIT $1) AS next
    JOIN conversations c ON c.tenant_id = next.tenant_id AND c.id = next.id AND c.last_user_message_at = next.opened_at
    FOR NO KEY UPDATE OF c SKIP LOCKED
), noted AS (
    INSERT INTO expiring_windows AS w (tenant_id, conversation_id, opened_at)
    SELECT tenant_id, id, opened_at FROM free ORDER BY tenant_id, id
    ON CONFLICT (tenant_id, conversation_id) DO UPDATE SET opened_at = EXCLUDED.opened_at
        WHERE w.opened_at <> EXCLUDED.opened_at
    RETURNING tenant_id, conversation_id
)
SELECT tenant_id, channel_id, id AS conversation_id, window_closes_at(opened_at) AS closes_at
FROM free WHERE (tenant_id, id) IN (SELECT tenant_id, conversation_id FROM noted) ORDER BY closes_at
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
    minutes = WindowSettings().expiring_minutes
    rows = await connection.fetch(_NOTE, limit, minutes, MOST_EXPIRING_MINUTES, within, MOST_READ)
    return [ExpiringWindow(**row) for row in rows]
