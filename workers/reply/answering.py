"""Has an engine answer a conversation's last messages, in the form in which the channel shows it."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from shared.bot.base import Answer, Engine, Turn
from shared.domain import sms_segments
from shared.domain.channels import Channel
from shared.store.messages.inbound import HistoryMessage

DEEPEST_HISTORY = 200  # messages read for one answer, however many are unanswered


def depth(channel: Channel, unanswered: int) -> int:
    """How many of a conversation's last messages an answer is made of."""
    return min(channel.settings.reply.llm.history + unanswered, DEEPEST_HISTORY)


def newest_of_customer(history: Sequence[HistoryMessage]) -> UUID | None:
    """The id of the customer's last message; it is answered once."""
    return next((message.id for message in reversed(history) if message.role == "user"), None)


def trailing(history: Sequence[HistoryMessage], unanswered: int) -> int:
    """How many of the last messages reach back to the customer's first unanswered one.

    A message of ours among them (a campaign's) is not an answer.
    """
    from_customer = 0
    for count, message in enumerate(reversed(history), start=1):
        from_customer += message.role == "user"
        if from_customer == unanswered:
            return count
    return len(history)


async def make(
    engines: Mapping[str, Engine], channel: Channel, history: Sequence[HistoryMessage], unanswered: int
) -> Answer:
    """The answer of the channel's engine to the customer's last `unanswered` messages (at least 1)."""
    turns = [
        Turn("user" if message.role == "user" else "assistant", message.content or f"[{message.message_type}]")
        for message in history
    ]
    settings = channel.settings.reply
    return await engines[settings.engine].answer(settings, turns, trailing(history, unanswered), channel.kind)


def text_of(answer: Answer, channel: Channel) -> str:
    """The answer's text, no longer than the channel lets it be."""
    if channel.kind != "sms":
        return answer.text
    return sms_segments.fitted(answer.text, channel.settings.reply.sms_segments)


def metadata_of(answer: Answer, channel: Channel) -> dict[str, object]:
    """What the answer's row says of its origin."""
    return {"engine": channel.settings.reply.engine, "outcome": answer.outcome}
