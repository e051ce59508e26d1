"""Looks at the outcomes of a campaign before each page, and decides whether it goes on."""

from dataclasses import dataclass
from datetime import datetime

from shared.database import Connection
from shared.domain.channels import Channel
from shared.store.campaigns.counts import Counts
from shared.store.campaigns.life import Pause
from shared.store.campaigns.records import Campaign


@dataclass(frozen=True, slots=True)
class Go:
    """It goes on, with at most so many recipients for now; None: with as many as its rate allows."""

    most: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is sent until then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Stop:
    """It pauses."""

    pause: Pause


Look = Go | Wait | Stop


async def look(tx: Connection, campaign: Campaign, channel: Channel, counts: Counts) -> Look:
    """What the campaign does next. `counts` are its recipients by state and variant."""
    return Go()
