"""Assigns one of two templates to each recipient of a page, where the campaign compares them."""

from collections.abc import Sequence
from dataclasses import replace

from shared.database import Connection
from shared.domain.campaigns import comparison
from shared.domain.campaigns.settings import CampaignSettings
from shared.store.campaigns import variants as store
from shared.store.campaigns.pages import Recipient, Talk
from shared.store.campaigns.records import Campaign


async def assigned(
    tx: Connection, campaign: Campaign, settings: CampaignSettings, locked: Sequence[tuple[Recipient, Talk]]
) -> Sequence[tuple[Recipient, Talk]]:
    """These recipients, which the caller has locked, each with its variant, which its row has too."""
    if settings.comparison is None:
        return locked
    share = settings.comparison.share
    found = [
        (replace(recipient, variant=comparison.variant_of(recipient.id, share, campaign.winner)), talk)
        for recipient, talk in locked
    ]
    changed = [
        (after.id, after.variant)
        for (before, _), (after, _) in zip(locked, found, strict=True)
        if before.variant != after.variant
    ]
    if changed:
        await store.set_variants(tx, campaign.tenant_id, changed)
    return found
