"""Says which contents of a message Twilio does not send. No I/O."""

from typing import Final

from shared.domain.model import ChannelKind, Outgoing
from shared.providers.base import ContentRejected
from shared.providers.twilio.endpoint import LONGEST_BODY

_BODY_TOO_LONG: Final = "21617"
# On WhatsApp Twilio sends the first file, and drops the others without a word.
# https://help.twilio.com/articles/360017961894
_MOST_FILES: Final[dict[ChannelKind, int]] = {"whatsapp": 1, "sms": 10}


def refusal_of(message: Outgoing) -> ContentRejected | None:
    """Why Twilio would refuse the message; None where it would take it."""
    if message.template is not None:
        return None
    if message.interactive is not None or message.reaction is not None:
        return ContentRejected("content", "Twilio sends buttons and lists as content templates, and no reactions")
    count = len(message.text)
    if count > LONGEST_BODY:
        return ContentRejected(_BODY_TOO_LONG, f"text: {count} characters; Twilio takes at most {LONGEST_BODY}")
    return None


def content_problem(message: Outgoing) -> str | None:
    """As Provider.content_problem: also what Twilio takes and does not deliver."""
    refused = refusal_of(message)
    if refused is not None:
        return refused.detail
    most = _MOST_FILES.get(message.channel_kind, 0)
    if len(message.media) > most:
        return f"media: {len(message.media)} files; Twilio delivers {most} a message"
    return None
