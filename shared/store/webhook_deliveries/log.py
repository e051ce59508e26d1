"""webhook_logs: the deliveries of a webhook with their attempts, as the API and operators see them; and tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from shared.database import Connection
from shared.store.newest_first import Position, id_or_last, time_or

MOST_READ: Final = 1000  # deliveries that one page reads in search of those that its filters want

State = Literal["pending", "waiting", "delivered", "failed", "missed"]
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of `webhook_logs`, without its body and its attempts."""

    id: UUID
    tenant_id: UUID
    webhook_id: UUID
    event: str
    state: State
    is_test: bool
    conversation_id: UUID | None
    sequence: int | None  # of the conversation, where the webhook wants them in order
    attempt_count: int
    status_code: int | None  # of the last attempt
    error: str | None  # of the last attempt
    next_attempt_at: datetime | None
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A delivery with all that the log has of it."""

    delivery: Delivery
    payload: Json
    attempts: Sequence[Json]  # oldest first


# FAILED is the predicate of the index webhook_logs_failed.
FAILED: Final = "(success = false OR (success IS NULL AND held = 'missed'))"
_STATE: Final = (
    """CASE WHEN success THEN 'delivered' WHEN NOT success THEN 'failed' ELSE coalesce(held, 'pending') END"""
)
_COLUMNS: Final = f"""
id, tenant_id, webhook_id, event, {_STATE} AS state, metadata ? 'test' AS is_test, conversation_id, sequence,
attempt_count, status_code, error_message AS error, least(due_at, replay_at) AS next_attempt_at, created_at,
completed_at
"""


def _newest(only: str = "true") -> str:
    return f"""
SELECT * FROM webhook_logs
WHERE tenant_id = $1 AND webhook_id = $2 AND {only}
    AND created_at >= {time_or("-infinity", 5)} AND created_at < {time_or("infinity", 6)}
    AND (created_at, id) < ({time_or("infinity", 3)}, {id_or_last(4)})
ORDER BY created_at DESC, id DESC"""


def _page(newest: str) -> tuple[str, str]:
    """The statement of a page, and the one that says how far it read."""
    page = f"""
SELECT {_COLUMNS} FROM ({newest} LIMIT {MOST_READ}) AS newest
WHERE ($7::text IS NULL OR {_STATE} = $7) AND ($8::text IS NULL OR event = $8)
ORDER BY created_at DESC, id DESC LIMIT $9
"""
    return page, f"SELECT created_at, id FROM ({newest} OFFSET {MOST_READ - 1} LIMIT 1) AS last"


_ALL, _ALL_UP_TO = _page(_newest())
_FAILED, _FAILED_UP_TO = _page(_newest(FAILED))
_GET = f"SELECT {_COLUMNS}, payload, attempts FROM webhook_logs WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3"
_ADD_TEST = """
INSERT INTO webhook_logs (tenant_id, webhook_id, id, event, payload, metadata, replay_at, replay_kind)
VALUES ($1, $2, $3, $4, $5, '{"test": true}', now(), 'test')
"""


async def page(
    connection: Connection,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    state: State | None,
    event: str | None,
    since: datetime | None,
    until: datetime | None,
    after: Position | None,
    limit: int,
) -> tuple[list[Delivery], Position | None]:
    """A webhook's deliveries of a range of time, newest first, behind the position `after`; and where the page ended
    that read MOST_READ deliveries, None where it read all.

    What failed or was missed has an index: such a page is full.
    """
    page, up_to = (_FAILED, _FAILED_UP_TO) if state in ("failed", "missed") else (_ALL, _ALL_UP_TO)
    begin = (tenant_id, webhook_id, *(after or (None, None)), since, until)
    rows = await connection.fetch(page, *begin, state, event, limit)
    end = await connection.fetchrow(up_to, *begin)
    return [Delivery(**row) for row in rows], None if end is None else (end["created_at"], end["id"])


async def get(connection: Connection, tenant_id: UUID, webhook_id: UUID, log_id: UUID) -> Whole | None:
    """A delivery with its body and its attempts; None where this webhook has no such one."""
    row = await connection.fetchrow(_GET, tenant_id, webhook_id, log_id)
    if row is None:
        return None
    columns = dict(row)
    payload, attempts = columns.pop("payload"), columns.pop("attempts")
    return Whole(Delivery(**columns), payload, attempts)


async def add_test(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, log_id: UUID, event: str, payload: Json
) -> None:
    """Add a sample that the worker sends once, as it is. As palomar_worker."""
    await connection.execute(_ADD_TEST, tenant_id, webhook_id, log_id, event, payload)
