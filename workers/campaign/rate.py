"""How fast a campaign may send now: its own setting, or its share of what its channel has for campaigns."""

from datetime import timedelta
from typing import Final

from shared.database import Connection
from shared.domain.campaigns import pace
from shared.domain.campaigns.settings import CampaignSettings
from shared.domain.channels import Channel
from shared.providers import provider
from shared.store.campaigns import runs
from shared.store.campaigns.runs import Run

SENDS_WITHIN: Final = timedelta(seconds=10)  # the next step of a campaign that sends is due


async def rate_of(tx: Connection, run: Run, channel: Channel, settings: CampaignSettings) -> float:
    """Messages a second. It says how many are made; `send` paces each of them, by the channel's row in rate_limits."""
    setting = channel.settings.rate or provider(channel.provider).rate
    share = pace.bulk_rate(setting, 0.0, None, run.now) / max(
        1, await runs.neighbours(tx, channel.tenant_id, channel.id, SENDS_WITHIN)
    )
    return share if settings.rate is None else min(share, settings.rate)
