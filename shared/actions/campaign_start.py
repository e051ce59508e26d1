"""Starts or schedules a campaign for a person: what it lacks is said first, and a recurring one waits for its time."""

from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from shared.actions import campaign_checks, campaign_life
from shared.actions.campaign_checks import Wrong
from shared.actions.campaign_life import Moved
from shared.database import Connection
from shared.domain.campaigns import recurrence
from shared.domain.campaigns.settings import zone_of
from shared.store import channels
from shared.store.campaigns import records, tenant_settings
from shared.store.campaigns.records import Campaign


class NotReady(Exception):
    """The campaign can't be started, or sent as a test, like this: all that is wrong."""

    def __init__(self, *wrongs: Wrong) -> None:
        super().__init__(f"{wrongs[0].reason} {wrongs[0].remedy}")
        self.wrongs = wrongs


async def start(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Start a campaign now; a recurring one at its next time. Raises NotReady, and as campaign_life.start."""
    before = await _locked(connection, tenant_id, campaign_id)
    if before is None:
        return None
    if before.status == "draft":
        await check(connection, before)
    if before.values.recurrence is None or before.status not in ("draft", "scheduled"):
        return await campaign_life.start(connection, tenant_id, campaign_id)
    if before.status == "scheduled":
        return Moved(before)
    return await campaign_life.schedule(
        connection, tenant_id, campaign_id, _next_run(before, await _zone(connection, before))
    )


async def schedule(connection: Connection, tenant_id: UUID, campaign_id: UUID, at: datetime | None) -> Moved | None:
    """Have a campaign start at a time to come; one without a time zone is of the campaign's. None: a recurring one's
    next time. Raises NotReady, and as campaign_life.schedule."""
    before = await _locked(connection, tenant_id, campaign_id)
    if before is None:
        return None
    zone = await _zone(connection, before)
    if at is not None:
        moment = (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)
    elif before.values.recurrence is not None:
        moment = _next_run(before, zone)
    else:
        raise NotReady(Wrong(("at",), "It is missing.", "Give the time at which it starts."))
    if moment <= datetime.now(UTC):
        raise NotReady(_over(moment))
    if before.status == "draft":
        await check(connection, before)
    return await campaign_life.schedule(connection, tenant_id, campaign_id, moment)


async def check(connection: Connection, campaign: Campaign) -> None:
    """Raise NotReady for a campaign that can't be started as it is."""
    channel = await channels.get(connection, campaign.tenant_id, campaign.values.channel_id)
    found = await campaign_checks.wrongs(connection, campaign, channel, datetime.now(UTC))
    if found:
        raise NotReady(*found)


async def _locked(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Campaign | None:
    found = await records.get(connection, tenant_id, campaign_id, lock=True)
    return None if found is None or found.deleted_at is not None else found


async def _zone(connection: Connection, campaign: Campaign) -> ZoneInfo:
    return zone_of(campaign.values.timezone, await tenant_settings.get(connection, campaign.tenant_id))


def _next_run(campaign: Campaign, zone: ZoneInfo) -> datetime:
    try:
        return recurrence.next_run(campaign.values.recurrence or "", zone, datetime.now(UTC))
    except ValueError as error:
        raise NotReady(Wrong(("recurrence",), f"It {error}.", "Write it anew.")) from None


def _over(moment: datetime) -> Wrong:
    return Wrong(("at",), f"{moment:%Y-%m-%dT%H:%M:%SZ} is over.", "Give a time to come, or start it now.")
