"""How many recipients of a campaign become messages now: by its share of its channel's rate, and by its own rate."""

from shared.database import Connection
from shared.domain.campaigns import pace
from shared.domain.channels import Channel
from shared.providers import provider
from shared.store import rate_limits
from shared.store.campaigns import runs
from shared.store.campaigns.runs import Run


async def share_of(tx: Connection, run: Run, channel: Channel) -> float:
    """The campaign's share of its channel's rate, in messages a second.

    It says how many are made; `send` paces each of them, by the channel's row in rate_limits.
    """
    setting = channel.settings.rate or provider(channel.provider).rate
    slowed = await rate_limits.slowed(tx, channel.tenant_id, channel.id)
    rate = pace.bulk_rate(setting, 0.0, slowed, run.now, channel.settings.bulk_reserve)
    sharing = await runs.neighbours(tx, channel.tenant_id, channel.id)
    return rate / max(1, min(sharing, runs.AT_ONCE))
