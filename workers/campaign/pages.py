"""A page of a campaign: as many of its recipients as can be sent to within seconds become messages.

Who is asleep waits for the morning, and who has been written to often enough waits for the next day.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.database import Connection
from shared.domain.campaigns import pace
from shared.domain.campaigns.quiet_hours import QuietHours, allowed_from, zones_of_number
from shared.domain.campaigns.settings import zone_of
from shared.domain.channels import Channel
from shared.domain.model import AddressKind
from shared.queue.jobs import SendReady
from shared.store.campaigns import pages, runs
from shared.store.campaigns.pages import BEGINNING, Recipient
from workers.campaign import messages
from workers.campaign.messages import Page
from workers.campaign.rate import share_of

READ_AT_ONCE: Final = 500  # recipients, where some of them may have to wait
READS: Final = 4  # such batches in one step, in search of those who need not wait
MOST_WAITING: Final = 2000  # queued messages of which a step looks at each
DAY: Final = timedelta(hours=24)  # of the cap
LONGEST_WAIT: Final = timedelta(minutes=15)  # between two steps, though all recipients wait for a morning


async def make_page(tx: Connection, page: Page, waiting: int, most: int) -> tuple[timedelta, tuple[SendReady, ...]]:
    """Make the next messages, at most `most`, where `waiting` ones have not left yet; returns the time until the next
    page, and the jobs to publish after the commit."""
    own, used_to, now = page.settings.rate, page.run.rate_used_to, page.run.now
    wanted = min(await _wanted(tx, page, waiting), most)
    if own is not None:
        wanted = min(wanted, pace.own_page(own, used_to, now))
    if wanted == 0:
        return pace.NEXT_PAGE if own is None or used_to is None else max(pace.NEXT_PAGE, used_to - now), ()
    chosen, all_read = await _choose(tx, page, wanted)
    jobs = tuple(await messages.make(tx, page, chosen))
    if own is not None and jobs:
        used_to = pace.used_up(own, used_to, now, len(jobs))
        await runs.use_rate(tx, page.run.campaign, used_to)
        return max(used_to - now, timedelta(0)), jobs
    if len(chosen) == pace.MOST_AT_ONCE or not (chosen or all_read):
        return timedelta(0), jobs  # the rate allows for more, or the next ones may be awake
    if waiting or chosen:
        return pace.NEXT_PAGE, jobs
    return await _until_next(tx, page), jobs


async def _wanted(tx: Connection, page: Page, waiting: int) -> int:
    """How many recipients become messages now. A message that waits for more than the channel's rate keeps no other
    from being made."""
    rate = await share_of(tx, page.run, page.channel)
    wanted = pace.page(rate, waiting)
    if wanted or not waiting:
        return wanted
    ahead = timedelta(seconds=pace.AHEAD)
    late = await pages.waiting_long(tx, page.tenant_id, page.run.campaign.id, ahead, MOST_WAITING)
    return pace.page(rate, waiting - late)


async def _choose(tx: Connection, page: Page, wanted: int) -> tuple[list[Recipient], bool]:
    """The next recipients that may be written to now, and whether all that are due have been read. The others of them
    wait."""
    may_wait = _quiet(page) is not None or _cap(page) is not None
    limit = max(wanted, READ_AT_ONCE) if may_wait else wanted
    chosen: list[Recipient] = []
    after = BEGINNING
    for _ in range(READS if may_wait else 1):
        found = await pages.due(tx, page.tenant_id, page.run.campaign.id, after, limit, _kinds(page.channel))
        later = await _later(tx, page, found)
        if later:
            await pages.wait_until(tx, page.tenant_id, sorted(later.items()))
        chosen += [one for one in found if one.id not in later]
        if len(chosen) >= wanted:
            return chosen[:wanted], False
        if len(found) < limit:
            return chosen, True
        after = (found[-1].not_before, found[-1].id)
    return chosen, False


def _kinds(channel: Channel) -> tuple[AddressKind, ...]:
    """The kinds of addresses to which a channel sends."""
    if channel.provider == "kommo":
        return ("kommo_chat",)
    return ("email",) if channel.kind == "email" else ("phone", "user_id")


async def _later(tx: Connection, page: Page, found: Sequence[Recipient]) -> dict[UUID, datetime]:
    """Recipient → until when it has to wait; without those that need not."""
    now = page.run.now
    later: dict[UUID, datetime] = {}
    if (quiet := _quiet(page)) is not None:
        own = zone_of(page.run.campaign.values.timezone, page.tenant)
        moments = ((one.id, allowed_from(quiet, _zones(one), own, now)) for one in found)
        later = {recipient: at for recipient, at in moments if at > now}
    if (cap := _cap(page)) is not None:
        awake = [one for one in found if one.id not in later]
        written = await pages.written_to(tx, page.tenant_id, [one.contact_id for one in awake], DAY)
        for one in awake:
            times = written.get(one.contact_id, [])
            if len(times) >= cap:
                later[one.id] = times[cap - 1] + DAY
    return later


def _quiet(page: Page) -> QuietHours | None:
    """The hours in which none of the recipients is written to."""
    hours = page.settings.quiet_hours or page.tenant.quiet_hours
    return None if hours is None else hours.hours()


def _cap(page: Page) -> int | None:
    """How many messages of campaigns a contact gets in 24 hours."""
    return page.settings.daily_cap or page.tenant.daily_cap


def _zones(one: Recipient) -> tuple[ZoneInfo, ...]:
    """The time zones in which the recipient may live; none where that is not known."""
    if one.timezone is not None and (named := _zone(one.timezone)) is not None:
        return (named,)
    return zones_of_number(one.address) if one.address is not None and one.address.startswith("+") else ()


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo | None:
    """The zone that a tenant's data names; None where there is no such zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


async def _until_next(tx: Connection, page: Page) -> timedelta:
    """The time until a recipient may be written to, or the campaign ends, where none may now."""
    at = await pages.next_at(tx, page.tenant_id, page.run.campaign.id)
    moments = [moment for moment in (at, page.expires_at) if moment is not None]
    soonest = min(moments, default=page.run.now)
    return max(pace.NEXT_PAGE, min(soonest - page.run.now, LONGEST_WAIT))
