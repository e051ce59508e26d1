"""How fast a campaign may send on a channel, and how many of its recipients become messages now. No I/O.

Meta counts what a number sends and what customers write to it against one limit, 80 messages a second by default.
Replies must never wait for a campaign. So a campaign gets what is left of the channel's rate, less a reserve. Where the
provider answers that it is too fast, the channel slows down and comes back step by step.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

RESERVE: Final = 0.2  # share of what customers leave, for replies
AHEAD_SHARE: Final = 0.5  # of the reserve, for replies that go ahead of a campaign's next slots
ROOM: Final = 0.015  # of a second: what a second may have too much, and neither network nor a late call needs
SLOWER: Final = 0.7  # what is left of the rate after the provider has refused a message as too fast
SLOWEST: Final = 0.05  # share of the setting
QUIET: Final = timedelta(seconds=10)  # without such a refusal, after which the rate grows
GROWTH: Final = 0.05  # share of the setting, each time
COUNTED_ONCE: Final = timedelta(seconds=1)  # refusals within it: calls that were in flight are refused together
AHEAD: Final = 2.0  # seconds' worth of messages that may wait to be sent: what a pause has to catch
NEXT_PAGE: Final = timedelta(seconds=AHEAD / 4)  # between two pages: a quarter of what may wait has left
MOST_AT_ONCE: Final = 500  # recipients that become messages in one transaction


@dataclass(frozen=True, slots=True)
class Slowed:
    """The channel was refused as too fast at this moment, and has had this share of its rate since."""

    share: float
    at: datetime


def refused(slowed: Slowed | None, now: datetime) -> Slowed:
    """How the channel stands after another refusal."""
    if slowed is not None and now - slowed.at < COUNTED_ONCE:
        return slowed
    return Slowed(max(SLOWEST, share(slowed, now) * SLOWER), now)


def share(slowed: Slowed | None, now: datetime) -> float:
    """The share of its rate that the channel has now: 1 where it was not refused, or long ago."""
    if slowed is None:
        return 1.0
    steps = max(0, math.floor((now - slowed.at) / QUIET))
    return min(1.0, slowed.share + steps * GROWTH)


def reply_share(slowed: Slowed | None, now: datetime) -> float:
    """The share of its rate at which a slowed channel sends replies: they are few, and are slowed by one step at most.

    Where the provider refuses one that was too fast all the same, the channel pauses, as after any such refusal.
    """
    return max(SLOWER, share(slowed, now))


def bulk_rate(setting: float, inbound: float, slowed: Slowed | None, now: datetime, reserve: float = RESERVE) -> float:
    """Messages a second that all campaigns of a channel may send together.

    `setting` is the channel's rate, `inbound` what customers write to it a second where the provider counts that too.
    Never nothing: what customers write may not stop a campaign for good.
    """
    left = max(0.0, setting * share(slowed, now) - inbound)
    return max(setting * SLOWEST * (1 - reserve), left * (1 - reserve))


def ahead_every(rate: float, reserve: float) -> float:
    """Seconds of which one reply may go ahead of the slots that a campaign has reserved; 0: none may.

    It comes earlier than its place on the channel's line, so that a second may have one more. A channel of less than
    some 67 messages a second has no room for that.
    """
    return 1 / (rate * reserve * AHEAD_SHARE) if reserve > 0 and rate * ROOM >= 1 else 0.0


def page(rate: float, waiting: int) -> int:
    """How many recipients become messages now, where so many messages of the campaign wait to be sent."""
    return max(0, min(MOST_AT_ONCE, math.ceil(rate * AHEAD) - waiting))


def own_page(rate: float, used_to: datetime | None, now: datetime) -> int:
    """How many recipients of a campaign with a rate of its own become messages now.

    `used_to` is until when its rate is used up. What it has missed is made up for by at most one page.
    """
    if used_to is not None and used_to > now:
        return 0
    begins = now if used_to is None else max(used_to, now - NEXT_PAGE)
    return max(1, math.floor(rate * (now - begins + NEXT_PAGE).total_seconds()))


def used_up(rate: float, used_to: datetime | None, now: datetime, made: int) -> datetime:
    """Until when the rate of such a campaign is used up after a page of so many."""
    begins = now if used_to is None else max(used_to, now - NEXT_PAGE)
    return begins + timedelta(seconds=made / rate)
