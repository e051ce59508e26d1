"""Webhook endpoints: one URL each, with the secrets that verify what arrives there (sealed, see shared.crypto)."""

from typing import NamedTuple
from uuid import UUID

from shared.database import Connection

CHANGED = "palomar_endpoints"  # NOTIFY channel: some endpoint or tenant changed


class EndpointRow(NamedTuple):
    id: UUID
    tenant_id: UUID | None  # None: it serves several tenants
    provider: str
    secrets: str  # sealed JSON, bound to tenant and endpoint id; ingress.endpoint_directory has its shapes


_LIVE = """
SELECT e.id, e.tenant_id, e.provider, e.secrets
FROM endpoints e LEFT JOIN tenants t ON t.id = e.tenant_id
WHERE e.deleted_at IS NULL AND t.deleted_at IS NULL
"""


async def live(connection: Connection) -> list[EndpointRow]:
    """Every endpoint that accepts webhooks: neither it nor its tenant was deleted."""
    return [EndpointRow(*row) for row in await connection.fetch(_LIVE)]


_ONE = f"{_LIVE.rstrip()} AND e.id = $1"


async def get(connection: Connection, endpoint_id: UUID) -> EndpointRow | None:
    """An endpoint that accepts webhooks; None where it or its tenant was deleted."""
    row = await connection.fetchrow(_ONE, endpoint_id)
    return None if row is None else EndpointRow(*row)


# Those of several tenants are few: an operator makes one for each app.
_OF_SEVERAL = """
SELECT id, tenant_id, provider, secrets FROM endpoints
WHERE tenant_id IS NULL AND provider = $1 AND deleted_at IS NULL ORDER BY created_at, id
"""


async def of_several_tenants(connection: Connection, provider: str) -> list[EndpointRow]:
    """The operator's endpoints at a provider, which serve several tenants, oldest first."""
    return [EndpointRow(*row) for row in await connection.fetch(_OF_SEVERAL, provider)]


_OF_TENANT = """
SELECT id, tenant_id, provider, secrets FROM endpoints
WHERE tenant_id = $1 AND provider = $2 AND deleted_at IS NULL ORDER BY created_at, id
"""


async def of_tenant(connection: Connection, tenant_id: UUID, provider: str) -> list[EndpointRow]:
    """A tenant's own endpoints at a provider, oldest first; without those shared with others."""
    return [EndpointRow(*row) for row in await connection.fetch(_OF_TENANT, tenant_id, provider)]


_ADD = """
INSERT INTO endpoints (id, tenant_id, provider, secrets)
VALUES ($1, $2, $3, $4)
"""


async def add(connection: Connection, endpoint: EndpointRow) -> None:
    """Add an endpoint; every ingress is notified. Raises asyncpg.ForeignKeyViolationError for an unknown tenant."""
    await connection.execute(_ADD, *endpoint)


_SET_SECRETS = "UPDATE endpoints SET secrets = $2 WHERE id = $1"


async def set_secrets(connection: Connection, endpoint_id: UUID, secrets: str) -> None:
    """Replace an endpoint's sealed secrets; every ingress is notified."""
    await connection.execute(_SET_SECRETS, endpoint_id, secrets)
