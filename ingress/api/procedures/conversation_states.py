"""conversations.*: who answers, until when, and who looks after it."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from ingress.api.call import Call
from ingress.api.declaration import Example, mutation
from ingress.api.problems import CONFLICT, VERSION_MISMATCH, FieldError, Problem, pointer
from ingress.api.procedures.conversations import (
    ANA,
    ID,
    WRITE,
    Conversation,
    ConversationAnswer,
    ConversationId,
    existing,
)
from shared.actions import conversations
from shared.actions.conversations import WrongState
from shared.domain.conversation_status import Step
from shared.store.conversation_records import ConversationRecord

Assignee = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]

_REMEDIES: Final = {
    "escalated": "Return it to the bot: conversations.returnToBot.",
    "closed": "Reopen it first: conversations.reopen.",
}


class AssignConversation(ConversationId):
    assigned_to: Assignee | None = Field(
        description="Who looks after it, as your own system names them: a user's id, a name. null: no one."
    )


@mutation(
    "conversations.escalate",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"conversation": {**ANA, "status": "escalated"}})],
)
async def escalate(call: Call, given: ConversationId) -> ConversationAnswer:
    """Hand a conversation to a person: no engine answers it any more, and answers that have not left are canceled."""
    return await _move(call, given, "escalate")


@mutation(
    "conversations.returnToBot",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"conversation": ANA})],
)
async def return_to_bot(call: Call, given: ConversationId) -> ConversationAnswer:
    """Return an escalated conversation to the engine, which answers from the customer's next message on."""
    return await _move(call, given, "return_to_bot")


@mutation(
    "conversations.close",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"conversation": {**ANA, "status": "closed"}})],
)
async def close(call: Call, given: ConversationId) -> ConversationAnswer:
    """Close a conversation. The customer's next message makes it active again."""
    return await _move(call, given, "close")


@mutation(
    "conversations.reopen",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"conversation": ANA})],
)
async def reopen(call: Call, given: ConversationId) -> ConversationAnswer:
    """Reopen a closed conversation."""
    return await _move(call, given, "reopen")


@mutation(
    "conversations.markRead",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"conversation": {**ANA, "unreadCount": 0}})],
)
async def mark_read(call: Call, given: ConversationId) -> ConversationAnswer:
    """Mark a conversation as read by the tenant. The customer does not see it."""
    return _answer(await conversations.mark_read(call.connection, await _locked(call, given)))


@mutation(
    "conversations.assign",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID, "assignedTo": "user 7"}, {"conversation": {**ANA, "assignedTo": "user 7"}})],
)
async def assign(call: Call, given: AssignConversation) -> ConversationAnswer:
    """Say who looks after a conversation. Who answers it stays: see conversations.escalate."""
    return _answer(await conversations.assign(call.connection, await _locked(call, given), given.assigned_to))


async def _move(call: Call, given: ConversationId, step: Step) -> ConversationAnswer:
    before = await _locked(call, given)
    try:
        return _answer(await conversations.move(call.connection, before, step))
    except WrongState as wrong:
        error = FieldError(pointer("id"), f"The conversation is {wrong.status}.", _REMEDIES[wrong.status])
        raise Problem(CONFLICT, error.detail, errors=[error]) from None


async def _locked(call: Call, given: ConversationId) -> ConversationRecord:
    found = await existing(call, given.id, lock=True)
    call.expect_version(found.updated_at)
    return found


def _answer(record: ConversationRecord) -> ConversationAnswer:
    return ConversationAnswer(conversation=Conversation.of(record))
