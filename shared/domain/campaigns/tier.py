"""How many more people a number's portfolio may write to by template today: Meta's messaging limit. No I/O.

Meta counts the different people whom all numbers of a business portfolio write to outside the 24-hour window, in any 24
hours: 250, 2,000, 10,000, 100,000 or without a limit.
https://developers.facebook.com/documentation/business-messaging/whatsapp/messaging-limits
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.domain.channels import Channel

PERIOD: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Portfolio:
    """The numbers that share a limit, by the name that the tenant's channels have for them."""

    name: str
    limit: int


def portfolio_of(channel: Channel) -> Portfolio | None:
    """The portfolio whose limit holds for a channel; None where none does."""
    limit = channel.settings.meta.messaging_limit
    if limit is None or channel.kind != "whatsapp":
        return None
    return Portfolio(channel.settings.meta.portfolio or channel.business_id or str(channel.id), limit)


def left(limit: int, used: int) -> int:
    """How many people more."""
    return max(0, limit - used)


def free_at(oldest_use: datetime) -> datetime:
    """When a used-up limit has room again."""
    return oldest_use + PERIOD
