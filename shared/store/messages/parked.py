"""Rows whose items were buried: unfinished, in their state, and never due, until somebody replays the dead letter or
throws it away. Then they are given up, here."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.statuses import RESTORED
from shared.queue.jobs import Job, MediaWanted, ReplyWanted, SendAdmitted, SendRequested
from shared.store.by_key import only_if
from shared.store.events import Event, record

CODE: Final = "discarded"  # of a message that was given up so

# Of unknown outcome it is what its channel's policy makes of those that nobody knows about, unless a person decides.
_MESSAGE = f"""
UPDATE messages m SET status = 'failed', failed_at = now(), claim_id = NULL,
    error_code = CASE status WHEN 'unknown' THEN 'unknown' ELSE $3 END,
    error_message = 'its dead letter was thrown away'
WHERE tenant_id = $1 AND id = $2 AND due_at IS NULL AND (
    {only_if("status IN ('queued', 'ready')")}
    OR (status = 'unknown' AND error_code IS DISTINCT FROM '{RESTORED}' AND NOT EXISTS (
        SELECT FROM channels c
        WHERE c.tenant_id = m.tenant_id AND c.id = m.channel_id AND c.settings ->> 'unknown' = 'ask')))
RETURNING channel_id, conversation_id, error_code
"""

_REPLY = f"""
UPDATE conversations SET reply_wanted_since = NULL
WHERE tenant_id = $1 AND id = $2 AND {only_if("reply_due_at IS NULL AND reply_wanted_since IS NOT NULL")}
"""

_FILE = f"""
UPDATE media SET status = 'failed'
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'wanted'")} AND due_at IS NULL
"""


async def give_up(connection: Connection, items: Sequence[Job]) -> None:
    """Give up the rows of these items, where they are set aside: what is due, or finished, goes its own way.

    A message is failed and announced, a reply is owed no longer, a file is not fetched.
    """
    for item in items:
        match item:
            case SendRequested() | SendAdmitted():
                await _fail(connection, item.tenant_id, item.message_id)
            case ReplyWanted():
                await connection.execute(_REPLY, item.tenant_id, item.conversation_id)
            case MediaWanted():
                await connection.execute(_FILE, item.tenant_id, item.media_id)
            case _:
                pass  # a webhook has no row before it is persisted


async def _fail(connection: Connection, tenant_id: UUID, message_id: UUID) -> None:
    row = await connection.fetchrow(_MESSAGE, tenant_id, message_id, CODE)
    if row is not None:
        about = (tenant_id, row["channel_id"], row["conversation_id"], message_id)
        await record(connection, Event("message.failed", *about, detail={"error_code": row["error_code"]}))
