"""Moves a campaign from state to state, each time with one event in the same transaction."""

from datetime import datetime
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.life import Step, is_taken, may
from shared.store.campaigns import life, records
from shared.store.campaigns.life import Pause
from shared.store.campaigns.records import Campaign
from shared.store.events import Event, record


class NotNow(Exception):
    """The step leads nowhere from the state that the campaign is in."""

    def __init__(self, step: Step, campaign: Campaign) -> None:
        super().__init__(f"the campaign is {campaign.status}: {step} leads nowhere from there")
        self.step = step
        self.status = campaign.status


async def take(
    connection: Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    step: Step,
    *,
    due_at: datetime | None,
    pause: Pause | None = None,
) -> Campaign | None:
    """Take the step; None where there is no such live campaign. Raises NotNow.

    To repeat a step that has been taken changes nothing, and is no error: no second event.
    """
    before = await records.get(connection, tenant_id, campaign_id, lock=True)
    if before is None or before.deleted_at is not None:
        return None
    if is_taken(step, before.status) and step != "schedule":
        return before
    if not may(step, before.status):
        raise NotNow(step, before)
    moved = await life.move(connection, tenant_id, campaign_id, step, due_at=due_at, pause=pause)
    assert moved is not None, "its row is locked"
    await record(connection, changed(moved))
    return moved


def changed(campaign: Campaign) -> Event:
    """The event of a campaign's new state."""
    detail: dict[str, str | int | float | bool | None] = {"campaign_id": str(campaign.id), "status": campaign.status}
    if campaign.paused_reason is not None:
        detail["reason"] = campaign.paused_reason
    return Event(
        f"campaign.{campaign.status}", campaign.tenant_id, channel_id=campaign.values.channel_id, detail=detail
    )
