"""Decides whether a message may leave, and in what form: by opt-outs, the length of a text, and WhatsApp's window.

The worker `window` asks for each message of a conversation, the worker `campaign` for each recipient. Both hold the
conversation's lock, as persist does, so no decision is taken while a customer's message opens the window.
"""

from shared.domain import consents, sms_segments
from shared.domain.channels import Channel
from shared.domain.window import Decision, Fail, decide
from shared.store.messages.outbound_rows import Outbound


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
