"""Detects that a conversation is between our bot and another machine: it would never end. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.domain.model import ChannelKind

WITHIN: Final = timedelta(hours=1)
# Most answers of an engine in one conversation in that time: a person sends few mails, but may chat with a bot for an
# hour.
MOST_ANSWERS: Final[Mapping[ChannelKind, int]] = {"email": 10, "sms": 60, "whatsapp": 60}
# A sentence of at least SENTENCE characters that comes so often in that time is an answering machine's. Shorter texts a
# person may repeat as often: `1`, `sí`, `menú`.
MOST_REPEATS: Final = 10
SENTENCE: Final = 20
FEWEST: Final = min(MOST_REPEATS, *MOST_ANSWERS.values())  # with fewer messages of the customer, nothing is counted


@dataclass(frozen=True, slots=True)
class Exchange:
    """Recent counts of a conversation: answers of an engine, and repeats of the customer's most frequent sentence."""

    answers: int
    repeats: int


def is_loop(kind: ChannelKind, of_late: Exchange, limit: int | None = None) -> bool:
    """Whether to stop answering, until some of these messages are older than WITHIN.

    `limit` is the channel's own for both counts, where customers are machines, as in a test, or never are.
    """
    return of_late.answers >= (limit or MOST_ANSWERS[kind]) or of_late.repeats >= (limit or MOST_REPEATS)
