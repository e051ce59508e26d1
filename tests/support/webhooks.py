"""Webhooks of tenants, events for them, and what the log tells of their deliveries."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from pydantic import IPvAnyNetwork, TypeAdapter

from shared.actions import webhooks
from shared.crypto import KeyRing
from shared.database import Pool
from shared.settings import Settings
from shared.store.events import Event, record
from shared.store.webhooks import WebhookValues

# What lets a worker call a receiver on this machine.
LOCAL: Final[Mapping[str, Any]] = {
    "webhook_http": True,
    "webhook_networks": (TypeAdapter(IPvAnyNetwork).validate_python("127.0.0.0/8"),),
}
NAME: Final = "shop.order_paid"  # as a tenant records it by SQL

_NUMBERED: Final = """
INSERT INTO events (name, tenant_id, channel_id, conversation_id, detail)
SELECT $2, $1, $5, $6, jsonb_build_object('number', n) FROM generate_series($3::bigint, $3 + $4 - 1) AS n
"""


async def add(
    pool: Pool, settings: Settings, tenant_id: UUID, url: str, events: Sequence[str] = ("*",), **columns: object
) -> webhooks.NewWebhook:
    """A webhook of this tenant; `columns` of `webhooks` on top, such as `in_order`."""
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    async with pool.acquire() as connection, connection.transaction():
        made = await webhooks.create(connection, keys, tenant_id, WebhookValues("", url, tuple(events), True))
        for name, value in columns.items():
            await connection.execute(f"UPDATE webhooks SET {name} = $2 WHERE id = $1", made.stored.id, value)
    return made


async def happen(
    pool: Pool, tenant_id: UUID, count: int = 1, *, first: int = 1, name: str = NAME, channel_id: UUID | None = None,
    conversation_id: UUID | None = None,
) -> None:  # fmt: skip
    """Commit so many events of a tenant, numbered in their detail from `first` on: see `number_of`."""
    await pool.execute(_NUMBERED, tenant_id, name, first, count, channel_id, conversation_id)


async def happens(pool: Pool, *events: Event) -> None:
    """Commit these events."""
    async with pool.acquire() as connection, connection.transaction():
        await record(connection, *events)


def number_of(body: Mapping[str, Any]) -> int:
    """The number of an event of `happen`, of a delivery's body."""
    return int(body["data"]["data"]["number"])


async def deliveries(pool: Pool, webhook_id: UUID) -> list[asyncpg.Record]:
    """A webhook's rows of the log, in the order of the events."""
    return list(
        await pool.fetch("SELECT * FROM webhook_logs WHERE webhook_id = $1 ORDER BY created_at, id", webhook_id)
    )


async def health(pool: Pool, webhook_id: UUID) -> asyncpg.Record | None:
    return await pool.fetchrow("SELECT * FROM webhook_health WHERE webhook_id = $1", webhook_id)


_LOG_BACK: Final = """
WITH locked AS (SELECT tenant_id, id FROM webhook_logs WHERE webhook_id = $1 ORDER BY id FOR UPDATE)
UPDATE webhook_logs l SET created_at = created_at - $2::interval, due_at = due_at - $2::interval,
    completed_at = completed_at - $2::interval, replay_at = replay_at - $2::interval
FROM locked WHERE l.tenant_id = locked.tenant_id AND l.id = locked.id
"""
_HEALTH_BACK: Final = """
UPDATE webhook_health SET due_at = due_at - $2::interval, first_failed_at = first_failed_at - $2::interval,
    open_until = open_until - $2::interval, disabled_at = disabled_at - $2::interval
WHERE webhook_id = $1
"""


async def elapse(pool: Pool, webhook_id: UUID, by: timedelta) -> None:
    """Let so much time pass for this webhook: all that its rows tell happened so much earlier.

    To be called while no turn is under way: see `rests`. The clock finds what became due.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOG_BACK, webhook_id, by)
        await connection.execute(_HEALTH_BACK, webhook_id, by)


async def rests(pool: Pool, webhook_id: UUID) -> bool:
    """Whether all is matched, no process delivers to this webhook, and nothing of it is due."""
    found = await pool.fetchval(_RESTS, webhook_id)
    return bool(found)


_RESTS: Final = """
SELECT holder IS NULL AND (due_at IS NULL OR due_at > now()) AND NOT EXISTS (
    SELECT FROM events e, webhook_cursor c WHERE (e.xid, e.seq) > (c.xid, c.seq) AND e.tenant_id = h.tenant_id)
FROM webhook_health h WHERE webhook_id = $1
"""


# Not what is under way: its time is that of the lease.
_HASTEN: Final = """
WITH later AS (
    SELECT tenant_id, id FROM webhook_logs
    WHERE webhook_id = $1 AND due_at > now() AND attempts #> '{-1,ended_at}' IS DISTINCT FROM 'null'
    ORDER BY id FOR UPDATE
)
UPDATE webhook_logs l SET due_at = now() FROM later WHERE l.tenant_id = later.tenant_id AND l.id = later.id
"""
_CLOSE: Final = """
UPDATE webhook_health SET open_until = least(open_until, now()), due_at = least(due_at, now()) WHERE webhook_id = $1
"""


async def hasten(pool: Pool, webhook_id: UUID) -> None:
    """Let what waits for its next attempt be due now, and a circuit breaker let one through."""
    await pool.execute(_HASTEN, webhook_id)
    await pool.execute(_CLOSE, webhook_id)
