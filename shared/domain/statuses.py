"""The states of a message, the transitions between them, and the rank of receipts. No I/O.

queued ──▶ ready ──▶ sending ──▶ sent ──▶ delivered ──▶ read
  ▲ │        ▲           │  ├──▶ failed
  │ ├▶ held  └─throttled─┤  └──▶ unknown ──▶ sent | failed
  │ │    │               │
  │ └────┴─▶ failed, expired, canceled
  └──────────────────────┘ refused: window closed
"""

from typing import Final, Literal

Status = Literal[
    "received", "queued", "held", "ready", "sending", "unknown",
    "sent", "delivered", "read", "failed", "expired", "canceled",
]  # fmt: skip

EDGES: Final[dict[Status, frozenset[Status]]] = {
    "received": frozenset(),
    "queued": frozenset({"ready", "held", "failed", "canceled"}),
    "held": frozenset({"queued", "expired", "canceled"}),
    "ready": frozenset({"sending", "queued", "canceled", "failed"}),
    "sending": frozenset({"sent", "ready", "queued", "failed", "unknown"}),
    "unknown": frozenset({"sent", "failed"}),
    "sent": frozenset(),  # from here on receipts only, by rank
    "delivered": frozenset(),
    "read": frozenset(),
    "failed": frozenset(),
    "expired": frozenset(),
    "canceled": frozenset(),
}

TERMINAL: Final = frozenset({"received", "sent", "delivered", "read", "failed", "expired", "canceled"})
"""Finished; receipts may still move messages that were sent."""

CHARGED: Final = frozenset({"delivered", "read"})
"""Providers charge a message from here on. One of its receipts names the price, and may come after a later one."""

RESTORED: Final = "restored"
"""The error code of an `unknown` message that a restore or fail-over left to a person: no policy applies to it."""

# A failure never follows a delivery. A delivery may follow a failure, as of a message abandoned as unknown.
RANK: Final[dict[str, int]] = {"sent": 1, "failed": 2, "delivered": 3, "read": 4}

_MEANS: Final[dict[str, Status]] = {
    # Twilio. With `queued` and the like it has the message, which is our `sent`.
    "accepted": "sent", "scheduled": "sent", "queued": "sent", "sending": "sent", "sent": "sent",
    "partially_delivered": "sent", "delivered": "delivered", "read": "read",
    "undelivered": "failed", "failed": "failed", "canceled": "failed",
    # Meta
    "played": "read",
}  # fmt: skip

# States from which a receipt may move a message: the provider may have it. `ready` too: a send that seemed not accepted
# may have been, and the receipt then keeps us from sending it again.
_MOVABLE: Final = frozenset({"ready", "sending", "unknown", "sent", "delivered", "read", "failed"})


def meaning(word: str) -> Status | None:
    """Our status for a provider's word in a receipt; None for a word without effect (`received`, `deleted`)."""
    return _MEANS.get(word.lower())


def after_receipt(current: str, word: str) -> Status | None:
    """The state that a receipt leads to; None where it is only stored in the history.

    Providers deliver receipts late, twice and out of order, so only a higher rank moves a message.
    """
    status = meaning(word)
    if status is None or current not in _MOVABLE:
        return None
    return status if RANK[status] > RANK.get(current, 0) else None


def releases(current: str, word: str) -> bool:
    """Whether this receipt releases a message in this state that its provider holds for a check of the template.

    Every later state releases it too.
    """
    return current == "sent" and meaning(word) == "sent"


def may(current: Status, target: Status) -> bool:
    """Whether this transition exists."""
    return target in EDGES[current]
