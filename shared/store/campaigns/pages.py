"""campaign_recipients: the next ones of a campaign, and what becomes of those that get no message."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.domain.model import AddressKind, ConsentScope
from shared.store.arrays import arrays
from shared.store.by_key import only_if
from shared.store.consents import STOPPED_BY

Place = tuple[datetime, UUID]
"""Where a page of recipients ended: not_before and id of its last one."""
BEGINNING: Final[Place] = (datetime(2, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient that is due, with what is known of the contact. `kind` and `given` are None where the contact has the
    address no longer that was theirs when the campaign began."""

    id: UUID
    contact_id: UUID
    address: str | None
    not_before: datetime
    variant: int
    message_data: Mapping[str, Any]
    name: str | None
    timezone: str | None
    is_active: bool
    is_deleted: bool
    kind: AddressKind | None
    given: str | None


# The contact's row may lack: it was erased, and the recipient's row goes with it.
_DUE = """
SELECT r.id, r.contact_id, r.address, r.not_before, r.variant, r.message_data, k.name,
    k.metadata ->> 'timezone' AS timezone, k.is_active, k.deleted_at IS NOT NULL AS is_deleted, a.kind, a.given
FROM (
    SELECT * FROM campaign_recipients
    WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'pending' AND not_before <= now()
        AND (not_before, id) > ($3, $4)
    ORDER BY not_before, id LIMIT $5
) AS r
JOIN contacts AS k ON k.tenant_id = $1 AND k.id = r.contact_id
LEFT JOIN LATERAL (
    SELECT kind, given FROM contact_addresses
    WHERE tenant_id = $1 AND canonical = r.address AND kind = ANY($6::text[]) AND contact_id = r.contact_id LIMIT 1
) AS a ON true
ORDER BY r.not_before, r.id
"""
_NEXT_AT = """
SELECT not_before FROM campaign_recipients
WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'pending' ORDER BY not_before LIMIT 1
"""
_LOCK = f"""
SELECT id FROM campaign_recipients
WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND {only_if("status = 'pending'")}
ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""
_SET_VARIANT = """
UPDATE campaign_recipients SET variant = $3 WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND variant <> $3
"""
_WAIT_UNTIL = """
UPDATE campaign_recipients AS r SET not_before = later.at
FROM unnest($2::uuid[], $3::timestamptz[]) AS later (id, at)
WHERE r.tenant_id = $1 AND r.id = later.id AND r.status = 'pending'
"""
_LEAVE_OUT = """
UPDATE campaign_recipients AS r SET status = x.status, reason = x.reason, error_message = x.detail,
    failed_at = CASE WHEN x.status = 'failed' THEN now() END
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) AS x (id, status, reason, detail)
WHERE r.tenant_id = $1 AND r.id = x.id AND r.status = 'pending'
"""
_LEAVE_OUT_PENDING = """
UPDATE campaign_recipients SET status = $3, reason = $4 WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM campaign_recipients
    WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'pending' LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED)
"""
# Of the last day, over all campaigns; the newest first.
_WRITTEN_TO = f"""
SELECT r.contact_id, r.queued_at FROM unnest($2::uuid[]) AS one (id) CROSS JOIN LATERAL (
    SELECT contact_id, queued_at FROM campaign_recipients
    WHERE contact_id = one.id AND {only_if("tenant_id = $1")} AND queued_at > now() - $3::interval
        AND status NOT IN ('skipped', 'canceled')
    OFFSET 0
) AS r
ORDER BY r.queued_at DESC
"""
_TALKS = f"""
SELECT c.id, c.recipient, c.contact_name, c.last_user_message_at, {STOPPED_BY} AS stopped_by, clock_timestamp() AS now
FROM unnest($2::uuid[]) AS one (id)
CROSS JOIN LATERAL (SELECT * FROM conversations WHERE tenant_id = $1 AND id = one.id OFFSET 0) AS c
CROSS JOIN LATERAL (
    SELECT c.tenant_id, c.id AS conversation_id, 'bulk' AS lane, NULL::jsonb AS sent_as, NULL::jsonb AS template
) AS m
"""
# Those that wait longer than a pace's worth for another reason than the channel's rate. Not more than `$4` are read.
_WAITING_LONG = """
SELECT count(*) FILTER (WHERE late) FROM (
    SELECT coalesce(m.not_before > now() + $3::interval, false) AS late
    FROM campaign_recipients AS r JOIN messages AS m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
    WHERE r.tenant_id = $1 AND r.campaign_id = $2 AND r.status = 'queued' LIMIT $4
) AS queued
"""


async def due(
    connection: Connection, tenant_id: UUID, campaign_id: UUID, after: Place, limit: int, kinds: Sequence[AddressKind]
) -> list[Recipient]:
    """The next recipients that may be written to by now, behind the place `after`, with addresses of these kinds.

    They are not locked: conversations are locked before recipients. The caller holds the campaign's row.
    """
    rows = await connection.fetch(_DUE, tenant_id, campaign_id, *after, limit, list(kinds))
    return [Recipient(**row) for row in rows]


async def next_at(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> datetime | None:
    """When the next recipient may be written to; None where none is pending."""
    found: datetime | None = await connection.fetchval(_NEXT_AT, tenant_id, campaign_id)
    return found


async def lock(connection: Connection, tenant_id: UUID, recipients: Sequence[UUID]) -> set[UUID]:
    """Lock those that are pending and that no other session has locked; returns them."""
    return {row["id"] for row in await connection.fetch(_LOCK, tenant_id, list(recipients))}


async def set_variant(connection: Connection, tenant_id: UUID, recipients: Collection[UUID], variant: int) -> None:
    """Note which of two templates these get."""
    await connection.execute(_SET_VARIANT, tenant_id, list(recipients), variant)


async def wait_until(connection: Connection, tenant_id: UUID, later: Sequence[tuple[UUID, datetime]]) -> None:
    """Have pending recipients wait until these moments."""
    await connection.execute(_WAIT_UNTIL, tenant_id, *arrays(later, 2))


LeftOut = tuple[UUID, str, str, str | None]
"""A recipient that gets no message: `skipped` or `failed`, the reason's code, and a sentence for a person."""


async def leave_out(connection: Connection, tenant_id: UUID, left_out: Sequence[LeftOut]) -> None:
    """Note why these pending recipients get no message."""
    await connection.execute(_LEAVE_OUT, tenant_id, *arrays(left_out, 4))


async def leave_out_pending(
    connection: Connection, tenant_id: UUID, campaign_id: UUID, status: str, reason: str, limit: int
) -> int:
    """Leave out some of those that are pending, whoever they are; returns how many."""
    done = await connection.execute(_LEAVE_OUT_PENDING, tenant_id, campaign_id, status, reason, limit)
    return int(done.rpartition(" ")[2])


async def written_to(
    connection: Connection, tenant_id: UUID, contacts: Sequence[UUID], within: timedelta
) -> dict[UUID, list[datetime]]:
    """Contact → when campaigns have written to it within this time, the newest first."""
    found: dict[UUID, list[datetime]] = {}
    for row in await connection.fetch(_WRITTEN_TO, tenant_id, list(contacts), within):
        found.setdefault(row["contact_id"], []).append(row["queued_at"])
    return found


@dataclass(frozen=True, slots=True)
class Talk:
    """What decides on a message to a conversation. `now` is PostgreSQL's clock, as of Outbound's."""

    id: UUID
    recipient: str
    contact_name: str | None
    last_user_message_at: datetime | None
    stopped_by: ConsentScope | None  # the opt-out that keeps a campaign's message from leaving
    now: datetime


async def talks(connection: Connection, tenant_id: UUID, conversations: Sequence[UUID]) -> dict[UUID, Talk]:
    """The conversations, by id. The caller holds their locks."""
    rows = await connection.fetch(_TALKS, tenant_id, list(conversations))
    return {row["id"]: Talk(**row) for row in rows}


async def waiting_long(
    connection: Connection, tenant_id: UUID, campaign_id: UUID, longer_than: timedelta, limit: int
) -> int:
    """How many queued messages leave later than this, as their provider asks for, or the recipient's last one; of
    `limit` messages at most."""
    found: int = await connection.fetchval(_WAITING_LONG, tenant_id, campaign_id, longer_than, limit)
    return found
