"""Decides whether a message may leave, and in what form: by opt-outs, the length of a text, and WhatsApp's window.

The worker `window` asks for each message that is queued, the worker `campaign` for each recipient, the worker `reply`
for each answer that an engine makes at once. All hold the conversation's lock, as persist does, so no decision is taken
while a customer's message opens the window.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.domain import consents, sms_segments
from shared.domain.channels import Channel
from shared.domain.window import Admit, Decision, Fail, Hold, decide, is_open
from shared.store.events import Event
from shared.store.messages.outbound import Decided
from shared.store.messages.outbound_rows import Outbound


@dataclass(frozen=True, slots=True)
class Cancel:
    """It can't leave any more."""

    code: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A process that can read the channel's policy decides."""


Verdict = Decision | Cancel | Unread

_EVENTS: Final = {"held": "message.held", "failed": "message.failed", "canceled": "message.canceled"}


def verdict_on(message: Outbound, channel: Channel | None) -> Verdict:
    """What becomes of a queued message. `channel` None: it was deleted."""
    if channel is None:
        return Cancel("channel_deleted")
    refusal = refusal_of(message, channel)
    decision = refusal or decision_on(message, channel)
    if "window" in channel.unread and refusal is None and not isinstance(decision, Admit):
        return Unread()
    return decision


def decided(message: Outbound, channel: Channel | None, verdict: Verdict) -> Decided | None:
    """What the verdict writes into the message's row; None where it leaves the message queued."""
    key = (message.tenant_id, message.id)
    match verdict:
        case Admit(template):
            sent_as = template if template != message.template else None
            facts = sms_segments.facts(message.content) if channel and is_text_message(message, channel) else None
            return Decided(*key, "ready", sent_as=sent_as, facts=facts)
        case Hold():
            assert channel is not None, "a deleted channel's messages are canceled"
            return Decided(*key, "held", hold_for=timedelta(seconds=channel.settings.window.hold_for))
        case Fail(code, reason):
            return Decided(*key, "failed", error_code=code, error_message=reason[:500])
        case Cancel(code):
            return Decided(*key, "canceled", error_code=code)
        case Unread():
            return None


def as_it_is(message: Outbound, channel: Channel) -> Decided | None:
    """What is written into the row of a message that may leave as it is; None where the window has to decide on it.

    Where a message before it in its lane is `queued`, it has to be queued too.
    """
    verdict = verdict_on(message, channel)
    return decided(message, channel, verdict) if verdict == Admit() else None


def event_of(message: Outbound, becomes: Decided) -> Event | None:
    """The event of a decision; None for a message that is ready, of which `send` reports."""
    name = _EVENTS.get(becomes.status)
    if name is None:
        return None
    detail = {} if becomes.error_code is None else {"error_code": becomes.error_code}
    return Event(name, message.tenant_id, message.channel_id, message.conversation_id, message.id, detail=detail)


def uses_limit(message: Outbound, verdict: Verdict) -> bool:
    """Whether it leaves by template outside the window, which counts towards Meta's messaging limit."""
    if not isinstance(verdict, Admit) or verdict.template is None:
        return False
    return not is_open(message.last_user_message_at, message.now)


def refusal_of(message: Outbound, channel: Channel) -> Fail | None:
    """Why the message may not leave, whatever the window says."""
    if message.stopped_by is not None:
        return Fail(consents.OPTED_OUT, consents.REASONS[message.stopped_by])
    if is_text_message(message, channel) and (reason := sms_segments.too_long(message.content)):
        return Fail(sms_segments.TOO_LONG, reason)
    return None


def is_text_message(message: Outbound, channel: Channel) -> bool:
    """Whether it leaves as an SMS whose text we know: no template, and no MMS, which has no segments."""
    return channel.kind == "sms" and message.template is None and not message.media


def decision_on(message: Outbound, channel: Channel) -> Decision:
    """The window's decision on a message of this channel, by PostgreSQL's clock."""
    settings = channel.settings.window
    fallback = settings.template
    return decide(
        kind=channel.kind,
        last_user_message_at=message.last_user_message_at,
        now=message.now,
        policy=message.window_policy or settings.policy,
        template=message.template,
        fallback=None if fallback is None else fallback.filled(contact_name=message.contact_name, text=message.content),
        refused_at=message.window_refused_at,
    )
