"""Reads one message of a dead-letter queue: what it is, why it failed, how often it was tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Self

import orjson
from aio_pika.abc import AbstractIncomingMessage

from shared.queue import topology
from shared.queue.delivery import ATTEMPT, DEAD_LETTERED_AT, REASON, TRACEBACK

# The broker's own reasons for a dead letter, in words.
_BY_BROKER = {
    "delivery_limit": f"taken and not finished more than {topology.DELIVERY_LIMIT} times: it kills its consumer",
    "rejected": "rejected by a consumer",
    "expired": "its time to live ran out",
    "maxlen": "its queue was full",
}


@dataclass(frozen=True, slots=True)
class DeadItem:
    """One message of a dead-letter queue: `items` jobs, which have failed `attempts` times."""

    id: str
    type: str
    reason: str
    traceback: str
    attempts: int | None  # None: dead-lettered by the broker, which counts no attempts
    dead_lettered_at: datetime | None
    traces: tuple[str, ...]
    items: int
    body: bytes

    @classmethod
    def read(cls, message: AbstractIncomingMessage) -> Self:
        """Read a message's headers and envelope, of which each part may be missing."""
        headers = message.headers
        letter = _dead_letter(headers)
        reason = headers.get(REASON)
        if letter is not None:
            given = str(letter.get("reason"))
            reason = f"dead-lettered by the broker: {_BY_BROKER.get(given, given)}"
        attempts = headers.get(ATTEMPT)
        traces, items = _envelope(message.body)
        return cls(
            id=item_id(message),
            type=message.type or "",
            reason=str(reason or "no reason given"),
            traceback=str(headers.get(TRACEBACK) or ""),
            attempts=attempts if isinstance(attempts, int) and letter is None else None,
            dead_lettered_at=_moment(letter.get("time") if letter is not None else headers.get(DEAD_LETTERED_AT)),
            traces=traces,
            items=items,
            body=message.body,
        )


def item_id(message: AbstractIncomingMessage) -> str:
    """The message id; for one that has none, one made of its body."""
    return message.message_id or f"body-{sha256(message.body).hexdigest()[:32]}"


def _dead_letter(headers: Mapping[str, object]) -> Mapping[str, object] | None:
    """The newest entry of the broker's `x-death`, where the broker dead-lettered the message itself."""
    entries = headers.get("x-death")
    if isinstance(entries, list) and entries and isinstance(entries[0], dict):
        return entries[0]
    return None


def _moment(headed: object) -> datetime | None:
    if isinstance(headed, datetime):
        return headed if headed.tzinfo else headed.replace(tzinfo=UTC)
    return datetime.fromtimestamp(headed, UTC) if isinstance(headed, int) else None


def _envelope(body: bytes) -> tuple[tuple[str, ...], int]:
    """The traces and the number of the jobs inside; () and 1 where the body is no envelope."""
    try:
        outer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return (), 1
    items = outer.get("items") if isinstance(outer, dict) else None
    if not isinstance(items, list):
        return (), 1
    traces = (str(item["trace"]) for item in items if isinstance(item, dict) and item.get("trace"))
    return tuple(dict.fromkeys(traces)), len(items)
