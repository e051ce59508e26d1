"""What a read receipt is about: the customer's newest message."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.db import Connection

# A reaction, an edit and a revoke are no messages that anybody reads.
_NEWEST: Final = """
SELECT i.external_id, c.last_user_message_at, now() AS now
FROM messages i JOIN conversations c ON c.tenant_id = i.tenant_id AND c.id = i.conversation_id
WHERE i.tenant_id = $1 AND i.conversation_id = $2 AND i.role = 'user' AND i.external_id IS NOT NULL
    AND i.message_type NOT IN ('reaction', 'edit', 'revoke')
ORDER BY i.created_at DESC LIMIT 1
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
