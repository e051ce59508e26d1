"""webhooks: URLs of tenants' own systems that get events, each with its public key and how its URL does.

webhook_secrets.py has the secrets that come by SQL, webhook_keys.py all that signs, webhook_deliveries/ what was sent.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.store.by_key import only_if
from shared.store.newest_first import Position, behind

MOST_WEBHOOKS: Final = 500  # of a tenant, that are not deleted: each event is matched with all of them

Direction = Literal["inbound", "outbound"]


@dataclass(frozen=True, slots=True)
class WebhookValues:
    """What a tenant writes of a webhook. An empty filter, and no direction, let every event pass."""

    name: str
    url: str
    events: tuple[str, ...]
    is_active: bool
    channel_ids: tuple[UUID, ...] = ()
    direction: Direction | None = None
    tags: tuple[str, ...] = ()
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """How a webhook's URL does."""

    failures: int = 0  # attempts in a row that ended and failed
    first_failed_at: datetime | None = None  # the first of these
    open_until: datetime | None = None  # the circuit breaker is open: no attempt before
    disabled_at: datetime | None = None  # by us; what happens meanwhile is missed
    disabled_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A row of `webhooks`, without its secret."""

    id: UUID
    tenant_id: UUID
    values: WebhookValues
    has_secret: bool
    public_key: str | None  # whpk_…; None where it has no key pair yet
    previous_until: datetime | None  # until then the secret and the key before sign too
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    health: Health = field(default_factory=Health)


_FROM: Final = """
SELECT w.id, w.tenant_id, name, url, events, is_active, channel_ids, direction, tags, in_order,
    secret <> '' AS has_secret, nullif(k.public_key, '') AS public_key, k.previous_until, w.created_at, w.updated_at,
    w.deleted_at, coalesce(h.failures, 0) AS failures, h.first_failed_at, h.open_until, h.disabled_at, h.disabled_reason
FROM webhooks w
LEFT JOIN webhook_keys k ON k.tenant_id = w.tenant_id AND k.webhook_id = w.id
LEFT JOIN webhook_health h ON h.tenant_id = w.tenant_id AND h.webhook_id = w.id
"""
_GET = f"{_FROM} WHERE w.tenant_id = $1 AND w.id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE OF w"
_PAGE = f"""
{_FROM}
WHERE w.tenant_id = $1 AND deleted_at IS NULL AND ($2::boolean IS NULL OR is_active = $2) {behind(3)}
"""
_COUNT = "SELECT count(*) FROM webhooks WHERE tenant_id = $1 AND deleted_at IS NULL"
_INSERT = """
INSERT INTO webhooks (tenant_id, id, name, url, events, is_active, channel_ids, direction, tags, in_order, secret,
    sealed_secret)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, secret_mask(), $11)
"""
_UPDATE = """
UPDATE webhooks SET name = $3, url = $4, events = $5, channel_ids = $6, direction = $7, tags = $8, in_order = $9
WHERE tenant_id = $1 AND id = $2
"""
# A statement of its own: one that names the column enables a webhook that we have disabled (trigger webhooks_enabled).
_SWITCH = "UPDATE webhooks SET is_active = $3 WHERE tenant_id = $1 AND id = $2"
_DELETE = f"""
UPDATE webhooks SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING id
"""
_FIND = f"""
{_FROM} WHERE ($1::uuid IS NULL OR w.tenant_id = $1) AND w.deleted_at IS NULL AND (w.id::text = $2 OR name = $2)
ORDER BY w.created_at
"""


async def get(connection: Connection, tenant_id: UUID, webhook_id: UUID, *, lock: bool = False) -> Webhook | None:
    """The webhook, deleted or not. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, webhook_id)
    return None if row is None else _webhook(row)


async def page(
    connection: Connection, tenant_id: UUID, *, is_active: bool | None, after: Position | None, limit: int
) -> list[Webhook]:
    """Live webhooks, newest first, behind the position `after`."""
    rows = await connection.fetch(_PAGE, tenant_id, is_active, *(after or (None, None)), limit)
    return [_webhook(row) for row in rows]


async def count(connection: Connection, tenant_id: UUID) -> int:
    """How many webhooks a tenant has, without deleted ones."""
    found: int = await connection.fetchval(_COUNT, tenant_id)
    return found


async def named(connection: Connection, tenant_id: UUID | None, name: str) -> list[Webhook]:
    """The live webhooks with this id or name, of a tenant or of any; for an operator."""
    return [_webhook(row) for row in await connection.fetch(_FIND, tenant_id, name)]


async def insert(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, given: WebhookValues, sealed_secret: str
) -> None:
    """Insert a webhook, as palomar_worker: a tenant's session writes no sealed secret."""
    name, url, events, *more = _columns(given)
    await connection.execute(_INSERT, tenant_id, webhook_id, name, url, events, given.is_active, *more, sealed_secret)


async def update(connection: Connection, tenant_id: UUID, webhook_id: UUID, given: WebhookValues) -> None:
    """Write a webhook's columns, but its secret and whether it is active."""
    await connection.execute(_UPDATE, tenant_id, webhook_id, *_columns(given))


async def switch(connection: Connection, tenant_id: UUID, webhook_id: UUID, *, is_active: bool) -> None:
    """Write whether a webhook is active. One that we have disabled is enabled by it."""
    await connection.execute(_SWITCH, tenant_id, webhook_id, is_active)


async def delete(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> bool:
    """Delete a webhook softly; whether there was a live one."""
    return await connection.fetchval(_DELETE, tenant_id, webhook_id) is not None


def _columns(given: WebhookValues) -> tuple[object, ...]:
    return (
        given.name, given.url, list(given.events), list(given.channel_ids), given.direction, list(given.tags),
        given.in_order,
    )  # fmt: skip


def _webhook(row: asyncpg.Record) -> Webhook:
    return Webhook(
        id=row["id"],
        tenant_id=row["tenant_id"],
        values=WebhookValues(
            name=row["name"],
            url=row["url"],
            events=tuple(row["events"]),
            is_active=row["is_active"],
            channel_ids=tuple(row["channel_ids"]),
            direction=row["direction"],
            tags=tuple(row["tags"]),
            in_order=row["in_order"],
        ),
        has_secret=row["has_secret"],
        public_key=row["public_key"],
        previous_until=row["previous_until"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
        health=Health(
            failures=row["failures"],
            first_failed_at=row["first_failed_at"],
            open_until=row["open_until"],
            disabled_at=row["disabled_at"],
            disabled_reason=row["disabled_reason"],
        ),
    )
