"""Starts or schedules a campaign for a person: what it lacks is said first, and a recurring one waits for its time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from shared.actions import campaign_checks, campaign_life
from shared.actions.campaign_audience import texts
from shared.actions.campaign_checks import Wrong
from shared.actions.campaign_life import Moved
from shared.database import Connection
from shared.domain.campaigns import placeholders, recurrence
from shared.domain.campaigns.settings import stored_filter, stored_settings, zone_of
from shared.store import channels
from shared.store.campaigns import records, tenant_settings
from shared.store.campaigns.records import Campaign


class NotReady(Exception):
    """The campaign can't be started like this: `field` is what is wrong, `reason` and `remedy` are sentences.

    `wrongs` are those of the campaign itself, where it is known.
    """

    def __init__(self, field: str, reason: str, remedy: str, wrongs: Sequence[Wrong] = ()) -> None:
        super().__init__(f"{reason} {remedy}")
        self.field = field
        self.reason = reason
        self.remedy = remedy
        self.wrongs = wrongs


async def start(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Start a campaign now; a recurring one at its next time. Raises NotReady, and as campaign_life.start."""
    before = await _locked(connection, tenant_id, campaign_id)
    if before is None:
        return None
    if before.status == "draft":
        await _check_all(connection, before)
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
        raise NotReady("at", "It is missing.", "Give the time at which it starts.")
    if moment <= datetime.now(UTC):
        raise NotReady("at", f"{moment:%Y-%m-%dT%H:%M:%SZ} is over.", "Give a time to come, or start it now.")
    if before.status == "draft":
        await _check_all(connection, before)
    return await campaign_life.schedule(connection, tenant_id, campaign_id, moment)


async def _check_all(connection: Connection, campaign: Campaign) -> None:
    """Raise NotReady for a draft that can't be started as it is."""
    channel = await channels.get(connection, campaign.tenant_id, campaign.values.channel_id)
    wrongs = await campaign_checks.wrongs(connection, campaign, channel, datetime.now(UTC))
    if wrongs:
        reason = f"{'.'.join(wrongs[0].field)}: {wrongs[0].reason}"
        raise NotReady("id", reason, wrongs[0].remedy, wrongs)


def check(campaign: Campaign) -> None:
    """Raise NotReady for a draft that can't be previewed as it is."""
    values = campaign.values
    if values.recipient_type is None:
        raise NotReady("id", "This campaign is for no one.", "Set recipientType with campaigns.update.")
    if values.recipient_type != "all" and not values.recipient_ids:
        what = values.recipient_type.removesuffix("s")
        raise NotReady("id", f"This campaign names no {what}.", "Set recipientIds with campaigns.update.")
    try:
        settings = stored_settings(values.settings)
        stored_filter(values.recipient_filter)
    except ValueError:
        remedy = "Write settings and recipientFilter anew with campaigns.update."
        raise NotReady("id", "This campaign's settings or its filter can't be read.", remedy) from None
    try:
        placeholders.used(texts(values, settings))
    except placeholders.WrongPlaceholder as wrong:
        raise NotReady("id", wrong.reason, wrong.remedy) from None


async def _locked(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Campaign | None:
    found = await records.get(connection, tenant_id, campaign_id, lock=True)
    return None if found is None or found.deleted_at is not None else found


async def _zone(connection: Connection, campaign: Campaign) -> ZoneInfo:
    return zone_of(campaign.values.timezone, await tenant_settings.get(connection, campaign.tenant_id))


def _next_run(campaign: Campaign, zone: ZoneInfo) -> datetime:
    try:
        return recurrence.next_run(campaign.values.recurrence or "", zone, datetime.now(UTC))
    except ValueError as error:
        remedy = "Write recurrence anew with campaigns.update."
        raise NotReady("id", f"The campaign's recurrence {error}.", remedy) from None
