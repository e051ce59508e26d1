"""Changes a conversation's state, its reader's mark and who looks after it, each with its event."""

from shared.database import Connection
from shared.domain.conversation_status import MOVES, Step, may
from shared.store import conversation_records as store
from shared.store.conversation_records import ConversationRecord
from shared.store.events import Event, record
from shared.store.messages import agent_messages


class WrongState(Exception):
    """The step does not lead on from the conversation's state."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the conversation is {status}")
        self.status = status


async def move(connection: Connection, before: ConversationRecord, step: Step) -> ConversationRecord:
    """Take a step with a conversation that the caller has locked; nothing where it is there already. Raises WrongState.

    An escalation cancels the engine's answers that have not left.
    """
    to = MOVES[step]
    if before.status == to.end:
        return before
    if not may(step, before.status):
        raise WrongState(before.status)
    if step == "escalate":
        await agent_messages.escalate(connection, [(before.tenant_id, before.id)])
    after = await store.set_status(connection, before.tenant_id, before.id, to.end)
    await record(connection, _event(to.event, after))
    return after


async def mark_read(connection: Connection, before: ConversationRecord) -> ConversationRecord:
    """Mark a conversation that the caller has locked as read; nothing where nothing was unread."""
    if before.unread_count == 0:
        return before
    after = await store.mark_read(connection, before.tenant_id, before.id)
    await record(connection, _event("conversation.read", after))
    return after


async def assign(connection: Connection, before: ConversationRecord, to: str | None) -> ConversationRecord:
    """Assign a conversation that the caller has locked to a person, or with None to no one."""
    if before.assigned_to == to:
        return before
    after = await store.assign(connection, before.tenant_id, before.id, to)
    await record(connection, _event("conversation.assigned", after))
    return after


def _event(name: str, conversation: ConversationRecord) -> Event:
    return Event(name, conversation.tenant_id, conversation.channel_id, conversation.id)
