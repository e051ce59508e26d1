"""Plans the receipts of an accepted message: which, when, in what order and how often. No I/O."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ops.sandbox.faults import (
    LateReceipts,
    NoReceipts,
    ReceiptError,
    ReceiptFault,
    ReceiptsRepeated,
    ReceiptsShuffled,
)

Receipts = tuple[Literal["sent", "delivered", "read"], ...]
"""Which receipts the messages of a sender have. A benchmark leaves some out: each is a webhook, which costs more than
the message."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from acceptance to each receipt."""

    sent: float = 0.05
    delivered: float = 0.1
    read: float = 0.2


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a message: `after` seconds on it has `status`, and that is POSTed `copies` times (0: never)."""

    after: float
    status: str
    error_code: str | None = None
    error_message: str | None = None
    copies: int = 1


def plan(statuses: Sequence[str], delays: Delays, faults: Iterable[ReceiptFault], dice: random.Random) -> list[Planned]:
    """The steps of one message, by time.

    `statuses` are the normal ones (of sent, delivered, read). A shuffle swaps what is said at each time and never
    leaves the true order; late, repeated and quiet then apply to the result.
    """
    faults = tuple(faults)
    due = {"sent": delays.sent, "delivered": delays.delivered, "read": delays.read}
    steps = [Planned(due[status], status) for status in statuses]
    for fault in faults:
        if isinstance(fault, ReceiptError):
            failure = Planned(delays.delivered, fault.status, str(fault.code), fault.message or None)
            steps = [step for step in steps if step.status == "sent" and fault.after_sent] + [failure]
    if any(isinstance(fault, ReceiptsShuffled) for fault in faults):
        steps = _shuffled(steps, dice)
    for fault in faults:
        match fault:
            case LateReceipts():
                steps = [replace(step, after=step.after + fault.seconds) for step in steps]
            case ReceiptsRepeated():
                steps = [replace(step, copies=step.copies * fault.copies) for step in steps]
            case NoReceipts():
                steps = [replace(step, copies=0) for step in steps]
            case _:
                pass
    return steps


def _shuffled(steps: list[Planned], dice: random.Random) -> list[Planned]:
    if len(steps) < 2:
        return steps
    mixed = steps.copy()
    while mixed == steps:
        dice.shuffle(mixed)
    return [replace(said, after=slot.after) for slot, said in zip(steps, mixed, strict=True)]
