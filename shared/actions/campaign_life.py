"""Moves a campaign from state to state, each time with one event in the same transaction.

To repeat a step that has been taken changes nothing, and is no error: no second event. Every function returns None
where there is no such live campaign, and raises NotNow where the step leads nowhere from the campaign's state.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.life import Step, is_taken, may
from shared.queue.jobs import CampaignDue
from shared.store.campaigns import life, records
from shared.store.campaigns.life import Pause
from shared.store.campaigns.records import Campaign
from shared.store.events import Event, record

AT_ONCE: Final[frozenset[Step]] = frozenset(("start", "resume", "cancel", "fail"))  # the worker has something to do
BY_A_PERSON: Final = Pause("person", {"resume": "a person, with campaigns.resume"})


class NotNow(Exception):
    """The step leads nowhere from the state that the campaign is in."""

    def __init__(self, step: Step, campaign: Campaign) -> None:
        super().__init__(f"the campaign is {campaign.status}: {step} leads nowhere from there")
        self.step = step
        self.status = campaign.status


@dataclass(frozen=True, slots=True)
class Moved:
    """A campaign after a step, and the jobs to publish after the commit; without a publish the clock does it."""

    campaign: Campaign
    jobs: tuple[CampaignDue, ...] = ()


async def start(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Start a draft or a scheduled campaign now. A paused one goes on with those it has not written to yet."""
    return await _take_now(connection, tenant_id, campaign_id, "start")


async def resume(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Let a paused campaign go on with those it has not written to yet."""
    return await _take_now(connection, tenant_id, campaign_id, "resume")


async def schedule(connection: Connection, tenant_id: UUID, campaign_id: UUID, at: datetime) -> Moved | None:
    """Have a draft start at this time, or a scheduled campaign at another one than before."""
    taken = await take(connection, tenant_id, campaign_id, "schedule", due_at=at)
    return None if taken is None else Moved(taken)


async def unschedule(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Make a scheduled campaign a draft again."""
    taken = await take(connection, tenant_id, campaign_id, "unschedule")
    return None if taken is None else Moved(taken)


async def pause(connection: Connection, tenant_id: UUID, campaign_id: UUID, why: Pause = BY_A_PERSON) -> Moved | None:
    """Pause a running campaign: after the commit none of its messages leaves. Those that are ready wait."""
    taken = await take(connection, tenant_id, campaign_id, "pause", pause=why)
    return None if taken is None else Moved(taken)


async def cancel(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Cancel a campaign for good: after the commit none of its messages leaves.

    The worker cancels its messages and recipients afterwards, page by page: they may be a million.
    """
    return await _take_now(connection, tenant_id, campaign_id, "cancel")


async def fail(connection: Connection, tenant_id: UUID, campaign_id: UUID, why: Pause) -> Moved | None:
    """End a campaign that can't go on and that no person can help; as `cancel` for what is left of it."""
    return await _take_now(connection, tenant_id, campaign_id, "fail", why)


async def complete(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Moved | None:
    """Complete a running campaign, none of whose recipients is left."""
    taken = await take(connection, tenant_id, campaign_id, "complete")
    return None if taken is None else Moved(taken)


async def _take_now(
    connection: Connection, tenant_id: UUID, campaign_id: UUID, step: Step, why: Pause | None = None
) -> Moved | None:
    """Take a step of AT_ONCE."""
    now = datetime.now(UTC)
    taken = await take(connection, tenant_id, campaign_id, step, due_at=now, pause=why)
    return (
        None if taken is None else Moved(taken, (CampaignDue(tenant_id=tenant_id, campaign_id=taken.id, due_at=now),))
    )


async def take(
    connection: Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    step: Step,
    *,
    due_at: datetime | None = None,
    pause: Pause | None = None,
) -> Campaign | None:
    """Take the step; None where there is no such live campaign. Raises NotNow.

    `due_at` is when the worker takes its next step; without it now, after a step of AT_ONCE.
    """
    before = await records.get(connection, tenant_id, campaign_id, lock=True)
    if before is None or before.deleted_at is not None:
        return None
    if is_taken(step, before.status) and step != "schedule":
        return before
    if not may(step, before.status):
        raise NotNow(step, before)
    if due_at is None and step in AT_ONCE:
        due_at = datetime.now(UTC)
    moved = await life.move(connection, tenant_id, campaign_id, step, due_at=due_at, pause=pause)
    assert moved is not None, "its row is locked"
    await life.wait_for_claims(connection, campaign_id)
    if before.status == "paused" and moved.status == "running":
        await life.make_messages_due(connection, tenant_id, campaign_id)
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
