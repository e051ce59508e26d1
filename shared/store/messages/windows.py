"""The 24-hour window of a stored conversation, for clients in a tenant's transaction."""

from uuid import UUID

from shared.database import Connection
from shared.domain.window import WindowStatus

_CHECK = "SELECT can_send_proactive, open_until, last_user_message_at FROM check_whatsapp_24_hour_window($1)"


async def check_whatsapp_24_hour_window(connection: Connection, conversation_id: UUID) -> WindowStatus:
    """Whether this conversation may be written to without a template, and until when; not where it does not exist."""
    row = await connection.fetchrow(_CHECK, conversation_id)
    assert row is not None, "the function gives one row for every id"
    return WindowStatus(**dict(row))
