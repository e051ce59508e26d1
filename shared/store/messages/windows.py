"""The 24-hour window of stored conversations, for clients in a tenant's transaction."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.database import Connection
from shared.domain.window import WindowStatus

_CHECK = "SELECT can_send_proactive, open_until, last_user_message_at FROM check_whatsapp_24_hour_window($1)"
_NEEDING_TEMPLATES = """
SELECT id, channel_id, contact_id, recipient, contact_name, last_user_message_at
FROM conversations_needing_templates($1)
"""


@dataclass(frozen=True, slots=True)
class ClosedConversation:
    """A conversation that only an approved template can reach."""

    id: UUID
    channel_id: UUID
    contact_id: UUID | None
    recipient: str
    contact_name: str | None
    last_user_message_at: datetime | None


async def check_whatsapp_24_hour_window(connection: Connection, conversation_id: UUID) -> WindowStatus:
    """Whether this conversation may be written to without a template, and until when; not where it does not exist."""
    row = await connection.fetchrow(_CHECK, conversation_id)
    assert row is not None, "the function gives one row for every id"
    return WindowStatus(**dict(row))


async def conversations_needing_templates(connection: Connection, provider: str) -> list[ClosedConversation]:
    """The tenant's active conversations on WhatsApp whose window is closed, newest message first."""
    return [ClosedConversation(**dict(row)) for row in await connection.fetch(_NEEDING_TEMPLATES, provider)]
