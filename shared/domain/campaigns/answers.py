"""Decides whether a person's message or opt-out answers a campaign that has written to them. No I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

Kind = Literal["replied", "opted_out"]

# The states of a message that may have reached the person: they can answer while the provider's call still runs.
_LEFT: Final = frozenset(("sending", "sent", "delivered", "read", "unknown"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person did, and when."""

    kind: Kind
    at: datetime
    refused: UUID | None = None  # our message that the provider did not send because they have opted out


@dataclass(frozen=True, slots=True)
class Written:
    """A message of a campaign to that person, on the channel or kind of channel of the answer."""

    message_id: UUID
    status: str
    left_at: datetime | None  # when it was sent, or else when the call began
    recipient_status: str
    replied_within: timedelta  # by the campaign's setting


def becomes(answer: Answer, written: Written) -> Kind | None:
    """What the recipient of the message becomes; None where the answer has nothing to do with it.

    An opt-out outdoes an answer, whichever comes first: who writes STOP has answered, and wants no more.
    """
    if written.recipient_status in (answer.kind, "opted_out"):
        return None
    if answer.kind == "opted_out" and answer.refused == written.message_id:
        return "opted_out"
    if written.status not in _LEFT or written.left_at is None:
        return None
    # Providers give whole seconds of their own clocks: an answer may seem to come a little before its message.
    if not timedelta(seconds=-1) <= answer.at - written.left_at <= written.replied_within:
        return None
    return answer.kind
