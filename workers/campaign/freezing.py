"""Freezes who the recipients of a campaign are, a page at a time."""

from shared.database import Connection
from shared.domain.campaigns.settings import TenantCampaignSettings
from shared.domain.channels import Channel
from shared.store.campaigns.records import Campaign

# Of the contacts that are named, or in the groups that are.
_FREEZE = """
INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, address, status, reason, message_data)
SELECT $1, $2, k.id, a.canonical, CASE WHEN a.canonical IS NULL THEN 'skipped' ELSE 'pending' END,
    CASE WHEN a.canonical IS NULL THEN 'no_address' END, jsonb_build_object('contact.name', coalesce(k.name, ''))
FROM contacts AS k
LEFT JOIN LATERAL (
    SELECT canonical FROM contact_addresses
    WHERE tenant_id = $1 AND contact_id = k.id AND kind = ANY($5::text[]) ORDER BY kind, canonical LIMIT 1
) AS a ON true
WHERE k.tenant_id = $1 AND (
    $3 = 'contacts' AND k.id = ANY($4::uuid[]) OR $3 = 'groups' AND EXISTS (
        SELECT FROM group_contacts AS g
        WHERE g.tenant_id = $1 AND g.contact_id = k.id AND g.group_id = ANY($4::uuid[])))
ON CONFLICT DO NOTHING
"""
_FROZEN = "UPDATE campaigns SET frozen_at = now() WHERE tenant_id = $1 AND id = $2"


async def freeze_page(tx: Connection, campaign: Campaign, channel: Channel, tenant: TenantCampaignSettings) -> bool:
    """Freeze the next recipients; returns whether all are."""
    kinds = ["kommo_chat"] if channel.provider == "kommo" else ["email"] if channel.kind == "email" else ["phone"]
    given = campaign.values
    await tx.execute(_FREEZE, campaign.tenant_id, campaign.id, given.recipient_type, list(given.recipient_ids), kinds)
    await tx.execute(_FROZEN, campaign.tenant_id, campaign.id)
    return True
