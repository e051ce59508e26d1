"""Assigns one of two templates to each recipient of a page, where the campaign compares them."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns import comparison
from shared.domain.campaigns.settings import CampaignSettings
from shared.store.campaigns import pages
from shared.store.campaigns.pages import Recipient, Talk


async def assigned(
    tx: Connection,
    tenant_id: UUID,
    settings: CampaignSettings,
    winner: int | None,
    locked: Sequence[tuple[Recipient, Talk]],
) -> list[tuple[Recipient, Talk]]:
    """These recipients, which the caller has locked, each with its variant, which its row has too."""
    if settings.comparison is None:
        return list(locked)
    share = settings.comparison.share
    found = [
        (replace(recipient, variant=comparison.variant_of(recipient.id, share, winner)), talk)
        for recipient, talk in locked
    ]
    for variant in (0, 1):
        theirs = [recipient.id for recipient, _ in found if recipient.variant == variant]
        if theirs:
            await pages.set_variant(tx, tenant_id, theirs, variant)
    return found
