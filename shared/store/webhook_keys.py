"""webhook_keys: what signs a webhook's deliveries beside its secret, and what signed before the last rotation.

All that is sealed is sealed for the tenant and the webhook. shared/actions/webhook_keys.py seals and opens it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.store import webhook_secrets


@dataclass(frozen=True, slots=True)
class SealedKeys:
    """What signs a webhook's deliveries, sealed; an empty text where there is none."""

    tenant_id: UUID
    webhook_id: UUID
    secret: str = field(repr=False)
    public_key: str
    private_key: str = field(repr=False)
    previous_secret: str = field(repr=False)
    previous_private_key: str = field(repr=False)
    previous_until: datetime | None  # over, where the previous ones sign no more


@dataclass(frozen=True, slots=True)
class SealedPair:
    """An Ed25519 key pair: `whpk_…`, and the sealed `whsk_…`."""

    public_key: str
    private_key: str = field(repr=False)


_OF = """
SELECT w.tenant_id, w.id AS webhook_id, w.sealed_secret AS secret, coalesce(k.public_key, '') AS public_key,
    coalesce(k.sealed_private_key, '') AS private_key, coalesce(k.sealed_previous_secret, '') AS previous_secret,
    coalesce(k.sealed_previous_private_key, '') AS previous_private_key, k.previous_until
FROM webhooks w LEFT JOIN webhook_keys k ON k.tenant_id = w.tenant_id AND k.webhook_id = w.id
"""
_GET: Final = f"{_OF} WHERE w.tenant_id = $1 AND w.id = $2"
_EVERY: Final = f"{_OF} WHERE k.webhook_id IS NOT NULL ORDER BY w.tenant_id, w.id"
_ADD = """
INSERT INTO webhook_keys (tenant_id, webhook_id, public_key, sealed_private_key) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, webhook_id) DO UPDATE
    SET public_key = EXCLUDED.public_key, sealed_private_key = EXCLUDED.sealed_private_key, updated_at = now()
    WHERE webhook_keys.sealed_private_key = ''
"""
# What signed until now becomes the previous one, and signs too for a while. One row of each: a second rotation within
# that time ends what was before the first one.
_ROTATE = """
INSERT INTO webhook_keys AS k
    (tenant_id, webhook_id, public_key, sealed_private_key, sealed_previous_secret, previous_until)
SELECT w.tenant_id, w.id, $3, $4, w.sealed_secret, now() + $5 FROM webhooks w WHERE w.tenant_id = $1 AND w.id = $2
ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET public_key = EXCLUDED.public_key,
    sealed_private_key = EXCLUDED.sealed_private_key, sealed_previous_secret = EXCLUDED.sealed_previous_secret,
    sealed_previous_private_key = k.sealed_private_key, previous_until = EXCLUDED.previous_until, updated_at = now()
RETURNING previous_until
"""
_RESEAL = """
UPDATE webhook_keys
SET sealed_private_key = $3, sealed_previous_secret = $4, sealed_previous_private_key = $5, updated_at = now()
WHERE tenant_id = $1 AND webhook_id = $2
"""


async def get(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> SealedKeys | None:
    """What signs a webhook's deliveries; None where there is no such webhook. As palomar_worker."""
    row = await connection.fetchrow(_GET, tenant_id, webhook_id)
    return None if row is None else SealedKeys(**row)


async def add_pair(connection: Connection, tenant_id: UUID, webhook_id: UUID, pair: SealedPair) -> None:
    """Give a webhook its key pair, unless it has one. As palomar_worker."""
    await connection.execute(_ADD, tenant_id, webhook_id, pair.public_key, pair.private_key)


async def rotate(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, sealed_secret: str, pair: SealedPair, overlap: timedelta
) -> datetime:
    """Replace a webhook's secret and key pair; returns until when the ones before sign too. As palomar_worker.

    The caller has locked the webhook.
    """
    until: datetime = await connection.fetchval(
        _ROTATE, tenant_id, webhook_id, pair.public_key, pair.private_key, overlap
    )
    await webhook_secrets.set_sealed(connection, tenant_id, webhook_id, sealed_secret)
    return until


async def every(connection: Connection) -> list[SealedKeys]:
    """What signs, of all webhooks that have a key pair."""
    return [SealedKeys(**row) for row in await connection.fetch(_EVERY)]


async def reseal(connection: Connection, keys: SealedKeys) -> None:
    """Write a webhook's pair and previous ones as they are sealed now; its secret is webhook_secrets'."""
    await connection.execute(
        _RESEAL, keys.tenant_id, keys.webhook_id, keys.private_key, keys.previous_secret, keys.previous_private_key
    )
