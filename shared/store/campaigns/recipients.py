"""campaign_recipients: lists the recipients of a campaign, page by page, for people who look and for its results."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID

from shared.database import Connection

RecipientStatus = Literal[
    "pending", "queued", "held", "sent", "delivered", "read", "replied", "failed", "skipped", "opted_out", "unknown",
    "canceled",
]  # fmt: skip
STATUSES: Final[tuple[RecipientStatus, ...]] = get_args(RecipientStatus)

WAITING: Final[frozenset[RecipientStatus]] = frozenset(("pending", "queued", "held"))

AT_ONCE: Final = 1000  # recipients that an export reads in one transaction
MOST_READ: Final = 1000  # recipients that one page reads in search of those that its filters want
# Most recipients of a campaign are in these at some time. Of the others an index has few.
CROWDED: Final[frozenset[RecipientStatus]] = frozenset(("pending", "sent", "delivered", "read"))


@dataclass(frozen=True, slots=True)
class Recipient:
    """A contact of a campaign, and what became of it."""

    id: UUID
    contact_id: UUID
    message_id: UUID | None
    address: str | None
    name: str | None  # of the contact, as it is now
    variant: int
    status: str
    reason: str | None
    error_message: str | None
    not_before: datetime
    queued_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    replied_at: datetime | None
    failed_at: datetime | None
    opted_out_at: datetime | None
    message_data: Mapping[str, Any]
    updated_at: datetime


_FIELDS: Final = tuple(field.name for field in fields(Recipient))
_COLUMNS: Final = ", ".join("c.name" if name == "name" else f"r.{name}" for name in _FIELDS)
_FIRST: Final = "00000000-0000-0000-0000-000000000000"


def _behind(column: str, place: int) -> str:
    """SQL of what follows the id $place in order, or all where it is null. CASE: see newest_first.time_or."""
    return f"{column} > CASE WHEN ${place}::uuid IS NULL THEN '{_FIRST}'::uuid ELSE ${place} END"


def _page(recipients: str, order: str) -> str:
    return f"""
SELECT {_COLUMNS} FROM ({recipients}) AS r JOIN contacts c ON c.tenant_id = r.tenant_id AND c.id = r.contact_id
ORDER BY r.{order}
"""


# In the order of their contacts, as the index of who is in a campaign once has them.
_IN_ORDER: Final = f"""
SELECT * FROM campaign_recipients
WHERE tenant_id = $1 AND campaign_id = $2 AND {_behind("contact_id", 3)}
ORDER BY contact_id
"""
_ALL = _page(f"{_IN_ORDER} LIMIT $4", "contact_id")
_SOME = _page(
    f"SELECT * FROM ({_IN_ORDER} LIMIT {MOST_READ}) AS read WHERE status = $5 ORDER BY contact_id LIMIT $4",
    "contact_id",
)
_SOME_READ = f"SELECT contact_id FROM ({_IN_ORDER} OFFSET {MOST_READ - 1} LIMIT 1) AS last"


def _apart(status: RecipientStatus) -> str:
    """The status stands in the statement: with a parameter PostgreSQL can't tell that the partial index has it."""
    return _page(
        f"""
SELECT * FROM campaign_recipients
WHERE tenant_id = $1 AND campaign_id = $2 AND status = '{status}' AND {_behind("id", 3)}
ORDER BY id LIMIT $4
""",
        "id",
    )


_APART: Final = {status: _apart(status) for status in STATUSES if status not in CROWDED}


async def page(
    connection: Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    status: RecipientStatus | None,
    after: UUID | None,
    limit: int,
) -> tuple[list[Recipient], UUID | None]:
    """Recipients of a campaign behind the place `after` (`place` says which one a recipient has).

    A page reads at most MOST_READ recipients. Where that ends it before its limit, the second value is the place behind
    the last one that was read; else it is None.
    """
    given = (tenant_id, campaign_id, after, limit)
    if status in _APART:
        rows = await connection.fetch(_APART[status], *given)
    elif status is None:
        rows = await connection.fetch(_ALL, *given)
    else:
        rows = await connection.fetch(_SOME, *given, status)
    found = [Recipient(**{name: row[name] for name in _FIELDS}) for row in rows]
    if status not in CROWDED or len(found) == limit:
        return found, None
    return found, await connection.fetchval(_SOME_READ, tenant_id, campaign_id, after)


def place(recipient: Recipient, status: RecipientStatus | None) -> UUID:
    """Where a recipient stands in the list of those with this status."""
    return recipient.id if status in _APART else recipient.contact_id


async def every(
    transaction: Callable[[], AbstractAsyncContextManager[Connection]],
    tenant_id: UUID,
    campaign_id: UUID,
    status: RecipientStatus | None,
) -> AsyncIterator[Recipient]:
    """All recipients of a campaign, or those with this status, AT_ONCE in a transaction each."""
    after: UUID | None = None
    more = True
    while more:
        async with transaction() as connection:
            rows, read_up_to = await page(connection, tenant_id, campaign_id, status, after, AT_ONCE)
        for row in rows:
            yield row
        after = place(rows[-1], status) if len(rows) == AT_ONCE else read_up_to
        more = after is not None
