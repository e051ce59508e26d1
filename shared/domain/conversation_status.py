"""The states of a conversation, and which step leads from which to which. No I/O.

active ──▶ escalated: a person answers, and no engine does
  ▲  ▲         │  │
  │  └─────────┘  │ return to the bot
  │               ▼
  └───────── closed: nothing more is expected; the customer's next message makes it active again
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Status = Literal["active", "escalated", "closed"]
Step = Literal["escalate", "return_to_bot", "close", "reopen"]


@dataclass(frozen=True, slots=True)
class Move:
    """A step: from any of these states to that one, with the event that tells of it."""

    start: frozenset[Status]
    end: Status
    event: str


MOVES: Final[Mapping[Step, Move]] = MappingProxyType(
    {
        "escalate": Move(frozenset(("active", "closed")), "escalated", "conversation.escalated"),
        "return_to_bot": Move(frozenset(("escalated",)), "active", "conversation.returned_to_bot"),
        "close": Move(frozenset(("active", "escalated")), "closed", "conversation.closed"),
        "reopen": Move(frozenset(("closed",)), "active", "conversation.reopened"),
    }
)


def may(step: Step, status: str) -> bool:
    """Whether the step leads on from this state. One that has been taken already does not."""
    return status in MOVES[step].start
