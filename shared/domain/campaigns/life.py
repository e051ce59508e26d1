"""The states of a campaign, and which step leads from which to which. No I/O.

draft ──▶ scheduled ──▶ running ──▶ completed: every recipient is terminal
  │           │          │  ▲
  │  start    │          ▼  │ start, resume
  └───────────┼──────▶  paused
              ▼          │
           canceled ◀────┘   failed: it can't go on, and no person can help
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

Status = Literal["draft", "scheduled", "running", "paused", "completed", "canceled", "failed"]
Step = Literal["schedule", "unschedule", "start", "pause", "resume", "cancel", "complete", "fail"]

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
OVER: Final[frozenset[Status]] = frozenset(("completed", "canceled", "failed"))


@dataclass(frozen=True, slots=True)
class Move:
    """A step: from any of these states to that one."""

    start: frozenset[Status]
    end: Status


MOVES: Final[Mapping[Step, Move]] = MappingProxyType(
    {
        "schedule": Move(frozenset(("draft", "scheduled")), "scheduled"),
        "unschedule": Move(frozenset(("scheduled",)), "draft"),
        # On a paused campaign it resumes. To begin again from the first recipient would send to the others twice.
        "start": Move(frozenset(("draft", "scheduled", "paused")), "running"),
        "pause": Move(frozenset(("running",)), "paused"),
        "resume": Move(frozenset(("paused",)), "running"),
        "cancel": Move(frozenset(("scheduled", "running", "paused")), "canceled"),
        "complete": Move(frozenset(("running",)), "completed"),
        "fail": Move(frozenset(("scheduled", "running", "paused")), "failed"),
    }
)

EDGES: Final[frozenset[tuple[Status, Status]]] = frozenset(
    (start, move.end) for move in MOVES.values() for start in move.start if start != move.end
)


def may(step: Step, status: Status) -> bool:
    """Whether the step leads on from this state. One that has been taken already does not."""
    return status in MOVES[step].start


def is_taken(step: Step, status: Status) -> bool:
    """Whether the campaign is where the step leads: to repeat it changes nothing, and is no error."""
    return MOVES[step].end == status
