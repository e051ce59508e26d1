"""The interface of an engine: a conversation in, one text out. An engine has no other input and output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self
from unicodedata import category

from shared.domain.channels import LIMIT, ReplySettings
from shared.domain.model import ChannelKind
from shared.settings import Settings

# How an answer was made, for a metric's label. `unknown`: no rule matched, the menu is sent again.
Outcome = Literal["rule", "greeting", "menu", "unknown", "model", "fallback"]

_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The text to send, as the channel shows it: never empty, at most LIMIT characters; and how it was made."""

    text: str
    outcome: Outcome


class Engine(Protocol):
    """Answers conversations of any channel. Made once per process inside a running loop, closed by its owner."""

    waits: ClassVar[
        bool
    ]  # for another server, which may hang: its replies have a queue, a channel a share of the places

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The engine of a process with these settings."""
        ...

    async def answer(self, settings: ReplySettings, history: Sequence[Turn], new: int, kind: ChannelKind) -> Answer:
        """One answer to the last `new` turns (at least 1) of `history`, which is oldest first, in the form that a
        channel of this kind shows. Never raises."""
        ...

    async def close(self) -> None: ...


def unanswered(history: Sequence[Turn], new: int) -> list[str]:
    """The customer's texts among the last `new` turns, newest first."""
    return [turn.text for turn in reversed(history[-max(new, 1) :]) if turn.role == "user"]


def plain(text: str) -> str:
    """`text` ready to send: printable, at most LIMIT characters; may be empty.

    A longer text is cut after a word and ends with an ellipsis.
    """
    text = printable(text)
    return text if len(text) <= LIMIT else shortened(text[:LIMIT])


def printable(text: str) -> str:
    """`text` without lone surrogates, and without control characters except line breaks."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return "".join(char for char in lines if char == "\n" or category(char) not in ("Cc", "Cs")).strip()


def shortened(text: str) -> str:
    """`text` with an ellipsis in place of its last, perhaps broken word; not longer than it was.

    Without a blank in its second half (some scripts write none) only the last character is replaced.
    """
    head = text[:-1]
    blank = max(head.rfind(" "), head.rfind("\n"))
    return (head[:blank] if blank > len(head) // 2 else head).rstrip(" \n,;:") + _ELLIPSIS
