"""The endpoint and webhook URL of a channel, and whether the channel's address is proven to belong to its tenant."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.store.channel_records import ChannelRecord
from shared.store.channels import Listed

_SET_ENDPOINT = "UPDATE channels SET endpoint_id = $3 WHERE tenant_id = $1 AND id = $2"


async def set_endpoint(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, endpoint_id: UUID) -> None:
    """Set a channel's endpoint. Raises asyncpg.ForeignKeyViolationError for another tenant's endpoint."""
    await connection.execute(_SET_ENDPOINT, tenant_id, channel_id, endpoint_id)


@dataclass(frozen=True, slots=True)
class Unserved:
    """A locked channel with sealed secrets and without an endpoint, so that it receives nothing."""

    tenant_id: UUID
    id: UUID
    provider: str
    endpoint_id: UUID | None
    sealed: str


# Each tenant's newest ones only: however many of a tenant's can't be served, they don't hide those of others.
_WITHOUT_ENDPOINT = """
SELECT c.tenant_id, c.id, c.provider, c.endpoint_id, c.credentials AS sealed
FROM (
    SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY updated_at DESC) AS place FROM channels
    WHERE provider = $1 AND endpoint_id IS NULL AND credentials <> '' AND deleted_at IS NULL
) AS unserved JOIN channels c ON c.tenant_id = unserved.tenant_id AND c.id = unserved.id
WHERE unserved.place <= $5 AND (c.tenant_id, c.id) > ($2, $3)
ORDER BY c.tenant_id, c.id LIMIT $4 FOR NO KEY UPDATE OF c SKIP LOCKED
"""
_URL = "$1 || '/' || provider || '/' || endpoint_id"
_SET_URLS = f"""
UPDATE channels SET webhook_url = {_URL} WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM channels
    WHERE provider = $2 AND endpoint_id IS NOT NULL AND deleted_at IS NULL AND webhook_url IS DISTINCT FROM {_URL}
    FOR NO KEY UPDATE SKIP LOCKED)
"""
_SET_URL = f"""
UPDATE channels SET webhook_url = {_URL}
WHERE tenant_id = $2 AND id = $3 AND endpoint_id IS NOT NULL AND deleted_at IS NULL
    AND webhook_url IS DISTINCT FROM {_URL}
"""
SERVED_AT_ONCE: Final = 100  # of each tenant's channels; also the channels of one transaction
FIRST: Final = (UUID(int=0), UUID(int=0))


async def without_endpoint(connection: Connection, provider: str, after: tuple[UUID, UUID]) -> list[Unserved]:
    """A provider's channels without an endpoint, after a (tenant, channel), at most SERVED_AT_ONCE; none that is
    locked."""
    rows = await connection.fetch(_WITHOUT_ENDPOINT, provider, *after, SERVED_AT_ONCE, SERVED_AT_ONCE)
    return [Unserved(**row) for row in rows]


async def set_webhook_url(connection: Connection, tenant_id: UUID, channel_id: UUID, base: str) -> None:
    """As `set_webhook_urls`, for one channel."""
    await connection.execute(_SET_URL, base, tenant_id, channel_id)


async def set_webhook_urls(connection: Connection, provider: str, base: str) -> None:
    """Note each of a provider's channels' webhook URL; `base` is the part before the provider.

    Locked channels are left to the next call.
    """
    await connection.execute(_SET_URLS, base, provider)


# A deleted tenant does not keep an address from others.
_FREE = """
UPDATE channels c SET proven = false FROM tenants t
WHERE c.endpoint_id = $1 AND c.kind = $2 AND c.address = $3 AND c.proven
    AND t.id = c.tenant_id AND t.deleted_at IS NOT NULL
"""
# Only the address that the provider was asked about: the tenant may have changed it meanwhile.
_PROVE = """
UPDATE channels SET proven = true
WHERE tenant_id = $1 AND id = $2 AND endpoint_id = $3 AND kind = $4 AND address = $5 RETURNING id
"""


async def free(connection: Connection, endpoint_id: UUID, kind: str, address: str) -> None:
    """Free an address on an endpoint that deleted tenants' channels have."""
    await connection.execute(_FREE, endpoint_id, kind, address)


async def prove(connection: Connection, channel: Listed | ChannelRecord) -> bool:
    """Mark a channel's address as its tenant's, as the provider has confirmed: from now on it receives messages.

    False where the channel has another address by now. Raises asyncpg.UniqueViolationError where another channel of the
    endpoint has the address.
    """
    if channel.endpoint_id is None or channel.proven:
        return True
    await free(connection, channel.endpoint_id, channel.kind, channel.address)
    proven = await connection.fetchval(
        _PROVE, channel.tenant_id, channel.id, channel.endpoint_id, channel.kind, channel.address
    )
    return proven is not None
