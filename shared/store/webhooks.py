"""webhooks: URLs of tenants' own systems that get events. webhook_secrets.py has the secrets that come by SQL."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.store.by_key import only_if
from shared.store.newest_first import Position, behind


@dataclass(frozen=True, slots=True)
class WebhookValues:
    """What a tenant writes of a webhook."""

    name: str
    url: str
    events: tuple[str, ...]
    is_active: bool


@dataclass(frozen=True, slots=True)
class Webhook:
    """A row of `webhooks`, without its secret."""

    id: UUID
    tenant_id: UUID
    values: WebhookValues
    has_secret: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_COLUMNS: Final = """id, tenant_id, name, url, events, is_active, secret <> '' AS has_secret, created_at, updated_at,
    deleted_at"""
_GET = f"SELECT {_COLUMNS} FROM webhooks WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_PAGE = f"""
SELECT {_COLUMNS} FROM webhooks
WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::boolean IS NULL OR is_active = $2) {behind(3)}
"""
_INSERT = f"""
INSERT INTO webhooks (tenant_id, id, name, url, events, is_active, secret, sealed_secret)
VALUES ($1, $2, $3, $4, $5, $6, secret_mask(), $7) RETURNING {_COLUMNS}
"""
_UPDATE = f"""
UPDATE webhooks SET name = $3, url = $4, events = $5, is_active = $6 WHERE tenant_id = $1 AND id = $2
RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE webhooks SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {_COLUMNS}
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


async def insert(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, given: WebhookValues, sealed_secret: str
) -> Webhook:
    """Insert a webhook, as palomar_worker: a tenant's session writes no sealed secret."""
    return _webhook(await connection.fetchrow(_INSERT, tenant_id, webhook_id, *_columns(given), sealed_secret))


async def update(connection: Connection, tenant_id: UUID, webhook_id: UUID, given: WebhookValues) -> Webhook:
    """Write a webhook's columns, but its secret. The webhook must be there."""
    return _webhook(await connection.fetchrow(_UPDATE, tenant_id, webhook_id, *_columns(given)))


async def delete(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Delete a webhook softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, webhook_id)
    return None if row is None else _webhook(row)


def _columns(given: WebhookValues) -> tuple[object, ...]:
    return given.name, given.url, list(given.events), given.is_active


def _webhook(row: asyncpg.Record | None) -> Webhook:
    assert row is not None, "the statement returns the row that it wrote"
    return Webhook(
        id=row["id"],
        tenant_id=row["tenant_id"],
        values=WebhookValues(row["name"], row["url"], tuple(row["events"]), row["is_active"]),
        has_secret=row["has_secret"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )
