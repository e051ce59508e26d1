"""Changes what holds for all campaigns of a tenant, with its event."""

from collections.abc import Mapping
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.settings import TenantCampaignSettings
from shared.store.campaigns import tenant_settings as store
from shared.store.events import Event, record


async def change(connection: Connection, tenant_id: UUID, changes: Mapping[str, object]) -> TenantCampaignSettings:
    """Lay these fields over what there is; returns all. Without an event where nothing changes.

    Campaigns that run take it into account from their next page on. Raises pydantic's ValidationError.
    """
    before = await store.get(connection, tenant_id, lock=True)
    after = TenantCampaignSettings.model_validate(before.model_dump() | dict(changes))
    if after != before:
        await store.put(connection, tenant_id, after)
        await record(connection, Event("tenant.campaigns_changed", tenant_id))
    return after
