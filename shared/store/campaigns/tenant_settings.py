"""tenants: what holds for all campaigns of a tenant, in `settings` under `campaigns`."""

from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.settings import TenantCampaignSettings, stored_tenant_settings

_GET: Final = "SELECT settings -> 'campaigns' FROM tenants WHERE id = $1"
_LOCK: Final = f"{_GET} FOR NO KEY UPDATE"
_SET: Final = "UPDATE tenants SET settings = jsonb_set(settings, '{campaigns}', $2) WHERE id = $1"


async def get(connection: Connection, tenant_id: UUID, *, lock: bool = False) -> TenantCampaignSettings:
    """A tenant's settings, or the defaults. With `lock` the row is locked until the transaction ends."""
    raw: Any = await connection.fetchval(_LOCK if lock else _GET, tenant_id)
    return stored_tenant_settings(raw)


async def put(connection: Connection, tenant_id: UUID, settings: TenantCampaignSettings) -> None:
    """Replace a tenant's settings; those that have their default are not stored."""
    await connection.execute(_SET, tenant_id, settings.model_dump(mode="json", exclude_defaults=True))
