"""Queues a text to a conversation, with its event, unless something that is known already keeps it from leaving."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

from shared.database import Connection
from shared.domain import consents, sms_segments
from shared.domain.channels import readable
from shared.domain.model import ChannelKind
from shared.domain.window import Policy
from shared.providers import provider
from shared.queue.jobs import SendRequested
from shared.store import conversation_records
from shared.store.conversation_records import Recipient
from shared.store.events import Event, record
from shared.store.messages import outbound, records
from shared.store.messages.outbound import NewMessage
from shared.store.messages.records import MessageRecord

Obstacle = Literal["conversation", "channel", "contact", "opted_out", "content", "cause"]


class NotQueued(Exception):
    """Nothing was queued: `obstacle` is what is in the way, `reason` a sentence about it."""

    def __init__(self, obstacle: Obstacle, reason: str) -> None:
        super().__init__(reason)
        self.obstacle = obstacle
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewText:
    """A text to queue. `cause` names the request: a tenant has one message of each, however often it comes."""

    tenant_id: UUID
    conversation_id: UUID
    content: str
    cause: str
    window_policy: Policy | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)


async def queue_text(
    connection: Connection, text: NewText, handoff: timedelta
) -> tuple[MessageRecord, SendRequested | None]:
    """Queue a text; returns its message, and the job to publish after the commit.

    The job is None where the text was queued before. Raises NotQueued. The window, the channel's policy and the
    customer's consents decide again when the message is about to leave.
    """
    to = await conversation_records.lock_to_send(connection, text.tenant_id, text.conversation_id)
    if to is None:
        raise NotQueued("conversation", "There is no such conversation.")
    try:
        _check(to, text.content)
        return await _queue(connection, text, to, handoff)
    except NotQueued:  # unless this very request has queued it before
        before = await records.by_cause(connection, text.tenant_id, text.cause)
        if before is None:
            raise
    if (before.conversation_id, before.content) != (text.conversation_id, text.content):
        raise _taken()
    return before, None


async def _queue(
    connection: Connection, text: NewText, to: Recipient, handoff: timedelta
) -> tuple[MessageRecord, SendRequested]:
    message = NewMessage(
        tenant_id=text.tenant_id,
        conversation_id=text.conversation_id,
        channel_id=to.channel_id,
        provider=to.provider,
        dedupe_key=text.cause,
        content=text.content,
        window_policy=text.window_policy,
        metadata=text.metadata,
    )
    added = await outbound.add_and_read(connection, message, handoff)
    if added is None:
        raise _taken()
    queued, job = added
    await record(connection, Event("message.queued", text.tenant_id, to.channel_id, text.conversation_id, queued.id))
    return queued, job


def _taken() -> NotQueued:
    return NotQueued("cause", "This request has queued another message before.")


def check_reachable(to: Recipient) -> None:
    """Raise NotQueued where the conversation's channel or contact is deleted."""
    if to.channel_deleted:
        raise NotQueued("channel", "The conversation's channel is deleted.")
    if to.contact_deleted:
        raise NotQueued("contact", "The conversation's contact is deleted.")


def _check(to: Recipient, content: str) -> None:
    check_reachable(to)
    if to.stopped_by is not None:
        raise NotQueued("opted_out", f"Nothing leaves: {consents.REASONS[to.stopped_by]}.")
    if (wrong := wrong_text(to.provider, to.kind, content)) is not None:
        raise NotQueued("content", wrong)


def wrong_text(name: str, kind: ChannelKind, content: str) -> str | None:
    """Why the provider of this name can't send a text on a channel of this kind; None where it can."""
    if not readable(content):
        return "It shows nothing to read."
    most = provider(name).longest_text
    if len(content) > most:
        return f"It has {len(content)} characters, and this conversation's channel takes at most {most}."
    reason = sms_segments.too_long(content) if kind == "sms" else None
    return None if reason is None else f"{reason.removeprefix('text: ').capitalize()}."
