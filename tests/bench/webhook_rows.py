"""What the row `webhooks` stands on: tenants with a webhook each, and a message that their events are about."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import psycopg

from shared import database
from shared.settings import Settings
from shared.store import channels
from tests.support import webhooks

_CHANNELS: Final = """
INSERT INTO channels (id, tenant_id, endpoint_id, provider, kind, address, credentials)
SELECT tenant, tenant, tenant, 'twilio', 'whatsapp', '+1415523' || lpad(n::text, 4, '0'), ''
FROM unnest(%(tenants)s::uuid[]) WITH ORDINALITY AS made (tenant, n)
"""
_CONTACTS: Final = """
INSERT INTO contacts (id, tenant_id, phone_number, name, metadata)
SELECT tenant, tenant, '+34' || 600000000 + n, 'Ana María Pérez ' || n, '{"tags": ["vip", "madrid"]}'
FROM unnest(%(tenants)s::uuid[]) WITH ORDINALITY AS made (tenant, n)
"""
_CONVERSATIONS: Final = """
INSERT INTO conversations (id, tenant_id, contact_id, channel_id, provider, address, recipient, phone, contact_name,
    last_message_at, last_user_message_at)
SELECT tenant, tenant, tenant, tenant, 'twilio', '+34' || 600000000 + n, '+34' || 600000000 + n,
    '+34' || 600000000 + n, 'Ana María Pérez ' || n, now(), now()
FROM unnest(%(tenants)s::uuid[]) WITH ORDINALITY AS made (tenant, n)
"""
# A tenant's row of each table has the tenant's id, and so has its only message.
_MESSAGES: Final = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
    external_id, received_at)
SELECT tenant, tenant, tenant, tenant, 'twilio', 'inbound', 'user', 'received',
    'Quería preguntar por el pedido de la semana pasada, todavía no me ha llegado nada y ya son ocho días ' || n,
    'SM' || lpad(to_hex(n), 32, '0'), now()
FROM unnest(%(tenants)s::uuid[]) WITH ORDINALITY AS made (tenant, n)
"""
_EVENTS: Final = """
INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail)
SELECT 'message.received', tenant, tenant, tenant, tenant, tenant, jsonb_build_object('type', 'text')
FROM unnest($1::uuid[]) AS happened (tenant)
"""
_FORGET: Final = "DELETE FROM webhook_logs WHERE tenant_id = ANY($1::uuid[])"
_HEALTHY: Final = """
UPDATE webhook_health SET due_at = NULL, failures = 0, first_failed_at = NULL, open_until = NULL, probes = 0,
    disabled_at = NULL, disabled_reason = NULL
WHERE tenant_id = ANY($1::uuid[])
"""


async def store(superuser_url: str, pool: database.Pool, settings: Settings, urls: Sequence[str]) -> list[UUID]:
    """For each URL a tenant with a webhook that wants every event; the tenants, in the same order.

    The other rows are made as by a superuser, without triggers and foreign keys.
    """
    tenants = [database.new_id() for _ in urls]
    async with pool.acquire() as connection, connection.transaction():
        for number, tenant_id in enumerate(tenants):
            await channels.add_tenant(connection, tenant_id, f"Tienda {number}")
    for tenant_id, url in zip(tenants, urls, strict=True):
        await webhooks.add(pool, settings, tenant_id, url)
    with psycopg.connect(superuser_url, autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        for statement in (_CHANNELS, _CONTACTS, _CONVERSATIONS, _MESSAGES):
            superuser.execute(statement, {"tenants": tenants})
    return tenants


async def happen(pool: database.Pool, tenants: Sequence[UUID]) -> None:
    """Commit an event of each of these: its customer wrote."""
    await pool.execute(_EVENTS, tenants)


async def forget(pool: database.Pool, tenants: Sequence[UUID]) -> None:
    """As if nothing had ever been delivered to the webhooks of these tenants."""
    await pool.execute(_FORGET, tenants)
    await pool.execute(_HEALTHY, tenants)
