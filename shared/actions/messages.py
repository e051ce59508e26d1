"""Queues a message to a conversation, with its event, unless something known already keeps it from leaving."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from shared.database import Connection
from shared.domain import consents, message_form, sms_segments
from shared.domain.channels import readable
from shared.domain.media import message_type
from shared.domain.message_form import Form
from shared.domain.model import ChannelKind, Interactive, Media, Outgoing
from shared.domain.window import Policy
from shared.providers import provider
from shared.queue.jobs import SendRequested
from shared.store import conversation_records
from shared.store.conversation_records import Recipient
from shared.store.events import Event, record
from shared.store.messages import outbound, records
from shared.store.messages.outbound import NewMessage
from shared.store.messages.outbound_rows import media_json
from shared.store.messages.records import MessageRecord

_NO_ID: Final = UUID(int=0)  # a message that is only checked has none yet, and no content depends on it

Obstacle = Literal["conversation", "channel", "contact", "opted_out", "content", "media", "interactive", "cause"]


class NotQueued(Exception):
    """Nothing was queued: `obstacle` is what is in the way, `reason` a sentence about it."""

    def __init__(self, obstacle: Obstacle, reason: str) -> None:
        super().__init__(reason)
        self.obstacle = obstacle
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewText:
    """A text to queue, with files by their links and with buttons or a list; without a text, files alone.

    `cause` names the request: a tenant has one message of each, however often it comes.
    """

    tenant_id: UUID
    conversation_id: UUID
    content: str
    cause: str
    media: tuple[Media, ...] = ()
    interactive: Interactive | None = None
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
        _check(to, text)
        return await _queue(connection, text, to, handoff)
    except NotQueued:  # unless this very request has queued it before
        before = await records.by_cause(connection, text.tenant_id, text.cause)
        if before is None:
            raise
    if not _is_same(before, text):
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
        message_type=message_type(text.media[0]) if text.media else "text",
        media=text.media,
        window_policy=text.window_policy,
        metadata={**text.metadata, **message_form.stored(Form(interactive=text.interactive))},
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


def _is_same(before: MessageRecord, text: NewText) -> bool:
    """Whether a message that was queued for the same cause says the same."""
    media = [dict(part) for part in before.media]
    return (before.conversation_id, before.content, media) == (
        text.conversation_id,
        text.content,
        [media_json(part) for part in text.media],
    ) and message_form.form_of(before.metadata).interactive == text.interactive


def _check(to: Recipient, text: NewText) -> None:
    check_reachable(to)
    if to.stopped_by is not None:
        raise NotQueued("opted_out", f"Nothing leaves: {consents.REASONS[to.stopped_by]}.")
    check_content(to.provider, to.kind, text.content, text.media, text.interactive)


def check_content(
    name: str, kind: ChannelKind, content: str, media: tuple[Media, ...] = (), interactive: Interactive | None = None
) -> None:
    """Raise NotQueued where the provider of this name can't send this on a channel of this kind."""
    if (content or not media) and (wrong := wrong_text(name, kind, content)) is not None:
        raise NotQueued("content", wrong)
    message = Outgoing(
        message_id=_NO_ID,
        channel_kind=kind,
        sender="",
        recipient="",
        text=content,
        media=media,
        interactive=interactive,
    )
    if (problem := provider(name).content_problem(message)) is not None:
        part: Obstacle = "interactive" if interactive is not None else "media" if media else "content"
        raise NotQueued(part, f"{problem[0].upper()}{problem[1:]}.")


def wrong_text(name: str, kind: ChannelKind, content: str) -> str | None:
    """Why the provider of this name can't send a text on a channel of this kind; None where it can."""
    if not readable(content):
        return "It shows nothing to read."
    most = provider(name).longest_text
    if len(content) > most:
        return f"It has {len(content)} characters, and its channel takes at most {most}."
    reason = sms_segments.too_long(content) if kind == "sms" else None
    return None if reason is None else f"{reason.removeprefix('text: ').capitalize()}."
