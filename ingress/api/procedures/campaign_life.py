"""campaigns.start and the steps that follow: schedule, pause, resume, cancel."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ingress.api.call import Call
from ingress.api.campaign_models import ID, PROMOTION, Campaign, CampaignAnswer, CampaignId
from ingress.api.declaration import Example, mutation
from ingress.api.problems import CONFLICT, FieldError, Problem, invalid, not_found, pointer
from ingress.api.procedures.campaigns import WRITE, live
from shared.actions import campaign_life
from shared.actions.campaign_life import NotNow
from shared.domain.campaigns.life import MOVES, Step
from shared.domain.campaigns.settings import zone_of
from shared.queue.jobs import CampaignDue
from shared.store.campaigns import records, tenant_settings
from shared.store.campaigns.life import Pause

_RUNNING: Final = {**PROMOTION, "status": "running", "startedAt": "2026-11-28T16:05:00Z"}
_PAUSED: Final = {
    **_RUNNING,
    "status": "paused",
    "pausedReason": "person",
    "pausedDetail": {"resume": "a person, with campaigns.resume"},
}
BY_A_PERSON: Final = Pause("person", {"resume": "a person, with campaigns.resume"})
_AT: Final = "2099-01-07T09:00:00"


def _is_in_bounds(given: datetime) -> datetime:
    if not 2 <= given.year <= 9998:
        raise PydanticCustomError("moment", "The year is out of bounds", {"remedy": "Give a year from 2 to 9998."})
    return given


class ScheduleCampaign(CampaignId):
    at: Annotated[datetime, AfterValidator(_is_in_bounds)] | None = Field(
        default=None,
        description="Without an offset from UTC it is a time of the campaign's zone. May be left out where there is a "
        "recurrence: the next run.",
        examples=["2027-01-07T09:00:00"],
    )


@mutation("campaigns.start", scope=WRITE, examples=[Example({"id": ID}, {"campaign": _RUNNING})])
async def start(call: Call, given: CampaignId) -> CampaignAnswer:
    """Start a campaign now; a paused one goes on where it stopped, and never begins anew.

    Who gets it is decided now: whoever joins its groups later does not. The answer comes at once; campaigns.progress
    says how far it is. To start one that runs changes nothing.
    """
    _check_ready(await live(call, given.id, lock=True))
    return await _taken(call, given, "start", due_at=datetime.now(UTC))


@mutation(
    "campaigns.schedule",
    scope=WRITE,
    examples=[
        Example(
            {"id": ID, "at": _AT},
            {"campaign": {**PROMOTION, "status": "scheduled", "scheduledAt": "2099-01-07T08:00:00Z"}},
        )
    ],
)
async def schedule(call: Call, given: ScheduleCampaign) -> CampaignAnswer:
    """Start a campaign at a time to come. Give it again to move it."""
    campaign = await live(call, given.id, lock=True)
    _check_ready(campaign)
    zone = zone_of(campaign.values.timezone, await tenant_settings.get(call.connection, call.tenant_id))
    if given.at is None:
        raise invalid("at", "It is missing.", "Give the time at which it starts.")
    at = (given.at if given.at.tzinfo is not None else given.at.replace(tzinfo=zone)).astimezone(UTC)
    if at <= datetime.now(UTC):
        raise invalid("at", f"{at:%Y-%m-%dT%H:%M:%SZ} is over.", "Give a time to come, or start it: campaigns.start.")
    return await _taken(call, given, "schedule", due_at=at)


@mutation("campaigns.unschedule", scope=WRITE, examples=[Example({"id": ID}, {"campaign": PROMOTION})])
async def unschedule(call: Call, given: CampaignId) -> CampaignAnswer:
    """Make a scheduled campaign a draft again, which can be changed."""
    return await _taken(call, given, "unschedule")


@mutation("campaigns.pause", scope=WRITE, examples=[Example({"id": ID}, {"campaign": _PAUSED})])
async def pause(call: Call, given: CampaignId) -> CampaignAnswer:
    """Pause a campaign. Within two seconds nothing more leaves; what a provider has already is not called back."""
    return await _taken(call, given, "pause", pause=BY_A_PERSON)


@mutation("campaigns.resume", scope=WRITE, examples=[Example({"id": ID}, {"campaign": _RUNNING})])
async def resume(call: Call, given: CampaignId) -> CampaignAnswer:
    """Let a paused campaign go on, with exactly those recipients that it has not written to."""
    return await _taken(call, given, "resume", due_at=datetime.now(UTC))


@mutation(
    "campaigns.cancel",
    scope=WRITE,
    examples=[
        Example({"id": ID}, {"campaign": {**_RUNNING, "status": "canceled", "completedAt": "2026-11-28T16:06:00Z"}})
    ],
)
async def cancel(call: Call, given: CampaignId) -> CampaignAnswer:
    """End a campaign for good. Recipients without a message are `canceled`; receipts of the others still come."""
    return await _taken(call, given, "cancel")


def _check_ready(campaign: records.Campaign) -> None:
    """Raise the problem of a campaign that can't be started as it is."""
    if campaign.values.recipient_type is None:
        error = FieldError(pointer("id"), "This campaign is for no one.", "Set recipientType with campaigns.update.")
        raise Problem(CONFLICT, error.detail, errors=[error])


async def _taken(
    call: Call, given: CampaignId, step: Step, *, due_at: datetime | None = None, pause: Pause | None = None
) -> CampaignAnswer:
    """Take a step, and publish the campaign's job where one is due now."""
    try:
        moved = await campaign_life.take(call.connection, call.tenant_id, given.id, step, due_at=due_at, pause=pause)
    except NotNow as refused:
        raise _not_now(refused) from None
    if moved is None:
        raise not_found("campaign")
    if moved.status == "running":
        call.publish(CampaignDue(tenant_id=call.tenant_id, campaign_id=moved.id))
    return CampaignAnswer(campaign=Campaign.of(moved))


def _not_now(refused: NotNow) -> Problem:
    *others, last = sorted(MOVES[refused.step].start)
    states = f"{', '.join(others)} or {last}" if others else last
    error = FieldError(pointer("id"), f"This campaign is {refused.status}.", f"It must be {states} for this.")
    return Problem(CONFLICT, error.detail, errors=[error])
