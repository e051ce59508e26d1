"""Freezes a campaign's recipients: who they are, what is known of each, and who is skipped for which reason."""

from shared.actions import campaign_audience
from shared.database import Connection
from shared.domain.campaigns.settings import TenantCampaignSettings
from shared.domain.channels import Channel
from shared.store.campaigns.records import Campaign


async def freeze_page(tx: Connection, campaign: Campaign, channel: Channel, tenant: TenantCampaignSettings) -> bool:
    """Freeze the next page; returns whether all are frozen. Raises as campaign_audience.freeze_page.

    It also notes in the campaign how far it came, so that a killed worker's successor goes on from there.
    """
    return await campaign_audience.freeze_page(tx, campaign, channel)
