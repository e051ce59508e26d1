"""What a read receipt is about: the customer's newest message."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection

# A reaction, an edit and a revoke are no messages that anybody reads.
_NEWEST: Final = """
SELECT newest.external_id, c.last_user_message_at, now() AS now
FROM (
    SELECT external_id FROM messages
    WHERE tenant_id = $1 AND conversation_id = $2 AND role = 'user' AND external_id IS NOT NULL
        AND message_type NOT IN ('reaction', 'edit', 'revoke')
    ORDER BY created_at DESC LIMIT 1
) AS newest JOIN conversations c ON c.tenant_id = $1 AND c.id = $2
"""


@dataclass(frozen=True, slots=True)
class Newest:
    """The provider's id of the customer's newest message, when they last wrote, and the database's clock."""

    external_id: str
    last_user_message_at: datetime | None
    now: datetime


async def newest(connection: Connection, tenant_id: UUID, conversation_id: UUID) -> Newest | None:
    """None where the customer wrote nothing that can be read."""
    row = await connection.fetchrow(_NEWEST, tenant_id, conversation_id)
    return None if row is None else Newest(**row)
