"""Signing secrets of tenants' own webhooks: sealed in `webhooks`, and in clear only until the clock has sealed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.database import Connection
from shared.store.fair_share import of_each_tenant, try_later


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A locked webhook with the newest secret that waits to be sealed; an empty one removes the secret."""

    tenant_id: UUID
    id: UUID
    secret: str
    newest: int  # `seq` of the newest row that waits


# The webhook is locked, not the rows: of two clocks with a row each, one could write the older secret over the newer.
_WAITING = f"""
SELECT w.tenant_id, w.id
FROM ({of_each_tenant("unsealed_webhook_secrets", "webhook_id")}) AS due
JOIN webhooks w ON w.tenant_id = due.tenant_id AND w.id = due.id
ORDER BY due.place, w.tenant_id, w.id LIMIT $1 FOR NO KEY UPDATE OF w SKIP LOCKED
"""
_LATER = try_later("unsealed_webhook_secrets", "webhook_id")
_NEWEST = """
SELECT seq, secret FROM unsealed_webhook_secrets WHERE tenant_id = $1 AND webhook_id = $2 ORDER BY seq DESC LIMIT 1
"""
_SEAL = """
UPDATE webhooks SET sealed_secret = $3, secret = CASE WHEN $3 = '' THEN '' ELSE secret_mask() END
WHERE tenant_id = $1 AND id = $2
"""
_DONE = "DELETE FROM unsealed_webhook_secrets WHERE tenant_id = $1 AND webhook_id = $2 AND seq <= $3"
_SEALED = "SELECT tenant_id, id, sealed_secret FROM webhooks WHERE sealed_secret <> '' ORDER BY tenant_id, id"


async def waiting(connection: Connection, limit: int) -> list[WebhookSecret]:
    """Webhooks with a waiting secret, at most `limit`, of each tenant in turn; without those that are locked."""
    found = []
    for webhook in await connection.fetch(_WAITING, limit):
        if row := await connection.fetchrow(_NEWEST, webhook["tenant_id"], webhook["id"]):
            found.append(WebhookSecret(**webhook, secret=row["secret"], newest=row["seq"]))
    return found


async def seal_later(connection: Connection, waiting: Sequence[WebhookSecret]) -> None:
    """Try secrets that could not be sealed again in a minute, so that they don't delay others."""
    await connection.execute(_LATER, [w.tenant_id for w in waiting], [w.id for w in waiting])


async def seal(connection: Connection, webhook: WebhookSecret, sealed: str) -> None:
    """Replace the waiting secret by a sealed one; an empty text removes it."""
    await set_sealed(connection, webhook.tenant_id, webhook.id, sealed)
    await connection.execute(_DONE, webhook.tenant_id, webhook.id, webhook.newest)


async def set_sealed(connection: Connection, tenant_id: UUID, webhook_id: UUID, sealed: str) -> None:
    """Replace a webhook's sealed secret."""
    await connection.execute(_SEAL, tenant_id, webhook_id, sealed)


async def every(connection: Connection) -> Sequence[tuple[UUID, UUID, str]]:
    """(tenant, webhook, sealed secret) of all webhooks that have one."""
    return [tuple(row) for row in await connection.fetch(_SEALED)]
