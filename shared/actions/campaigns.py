"""Creates, changes and deletes a campaign that is a draft, each with its event in the same transaction."""

from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.store.campaigns import records as store
from shared.store.campaigns.records import Campaign, CampaignValues
from shared.store.events import Event, record

AT_WORK: Final = frozenset(("scheduled", "running", "paused"))


class NotADraft(Exception):
    """The campaign is in a state in which it can't be changed, or deleted, like this."""

    def __init__(self, campaign: Campaign) -> None:
        super().__init__(f"the campaign is {campaign.status}")
        self.status = campaign.status


async def create(
    connection: Connection, tenant_id: UUID, given: CampaignValues, *, origin_id: UUID | None = None
) -> Campaign:
    """Create a draft. `origin_id`: the campaign that it is a run of."""
    created = await store.insert(connection, tenant_id, given, origin_id=origin_id)
    await record(connection, _event("campaign.created", created))
    return created


async def update(connection: Connection, before: Campaign, given: CampaignValues) -> Campaign:
    """Change a draft whose row the caller has locked; without an event where nothing changes. Raises NotADraft."""
    if before.status != "draft":
        raise NotADraft(before)
    if given == before.values:
        return before
    after = await store.update(connection, before.tenant_id, before.id, given)
    await record(connection, _event("campaign.updated", after))
    return after


async def delete(connection: Connection, before: Campaign) -> Campaign:
    """Delete a live campaign, whose row the caller has locked, softly. Raises NotADraft where it is at work."""
    if before.status in AT_WORK:
        raise NotADraft(before)
    deleted = await store.delete(connection, before.tenant_id, before.id)
    assert deleted is not None, "the caller has locked a live one"
    await record(connection, _event("campaign.deleted", deleted))
    return deleted


def _event(name: str, campaign: Campaign) -> Event:
    return Event(
        name,
        campaign.tenant_id,
        channel_id=campaign.values.channel_id,
        detail={"campaign_id": str(campaign.id), "status": campaign.status},
    )
