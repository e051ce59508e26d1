"""Abandons parked rows when their dead letter is discarded.

A parked row is unfinished and has no due time, because its job was dead-lettered; it waits for the job's replay.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.statuses import RESTORED
from shared.queue.jobs import Job, MediaWanted, ReplyWanted, SendReady, SendRequested, UnknownDue
from shared.store.by_key import only_if
from shared.store.events import Event, record

CODE: Final = "discarded"  # the error code of an abandoned message

# A message of unknown outcome fails with the code `unknown`, unless the channel's policy leaves it to a person.
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


async def abandon(connection: Connection, items: Sequence[Job]) -> None:
    """Abandon the rows of these jobs where they are parked; rows that are due or finished stay as they are.

    A message is failed with its event, a reply is no longer owed, a file is not fetched.
    """
    for item in items:
        match item:
            case SendRequested() | SendReady() | UnknownDue():
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
