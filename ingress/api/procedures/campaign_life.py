"""campaigns.start and the steps that follow: schedule, pause, resume, cancel."""

from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from ingress.api.call import Call
from ingress.api.campaign_models import ID, OFFERS, PROMOTION, Campaign, CampaignAnswer, CampaignId
from ingress.api.declaration import Example, mutation
from ingress.api.models import Name
from ingress.api.problems import CONFLICT, INVALID_INPUT, MOST_ERRORS, FieldError, Problem, invalid, not_found, pointer
from ingress.api.procedures.campaigns import WRITE, live
from ingress.api.procedures.conversations import HELLO, Message, MessageAnswer
from shared.actions import campaign_again, campaign_life, campaign_start
from shared.actions.campaign_again import NotOver
from shared.actions.campaign_life import BY_A_PERSON, Moved, NotNow
from shared.actions.campaign_start import NotReady
from shared.actions.campaign_test_contact import contact_of
from shared.actions.campaign_test_send import send_test
from shared.actions.messages import NotQueued
from shared.database import new_id
from shared.domain.campaigns.life import MOVES
from shared.store import contact_records

_RUNNING: Final = {**PROMOTION, "status": "running", "startedAt": "2026-11-28T16:05:00Z"}
_PAUSED: Final = {
    **_RUNNING,
    "status": "paused",
    "pausedReason": "person",
    "pausedDetail": dict(BY_A_PERSON.detail),
}
_TEST_REMEDY: Final = "Change what the detail says, or send it to another contact."
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


class SendCampaignTest(CampaignId):
    to: Annotated[str, StringConstraints(min_length=3, max_length=320)] | None = Field(
        default=None,
        description="A phone number in international form; for e-mail an address.",
        examples=["+14155238886"],
    )
    contact_id: UUID | None = Field(default=None, description="In place of `to`.")
    variant: int = Field(default=0, ge=0, le=1, description="Which of two templates: 1 is settings.comparison's.")


class RunAgain(CampaignId):
    name: Name | None = Field(default=None, description="Left out: the former name, with (again).")
    include_unknown: bool = Field(
        default=False,
        description="Also those whose outcome is unknown. They may have had the message, and get it twice then.",
    )


@mutation("campaigns.start", scope=WRITE, examples=[Example({"id": ID}, {"campaign": _RUNNING})])
async def start(call: Call, given: CampaignId) -> CampaignAnswer:
    """Start a campaign now; a paused one goes on where it stopped, and never begins anew.

    Who gets it is decided now: whoever joins its groups later does not. The answer comes at once; campaigns.progress
    says how far it is. To start one that runs changes nothing. One with a recurrence waits for its next time.
    """
    return await taken(call, campaign_start.start(call.connection, call.tenant_id, given.id))


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
    return await taken(call, campaign_start.schedule(call.connection, call.tenant_id, given.id, given.at))


@mutation("campaigns.unschedule", scope=WRITE, examples=[Example({"id": ID}, {"campaign": PROMOTION})])
async def unschedule(call: Call, given: CampaignId) -> CampaignAnswer:
    """Make a scheduled campaign a draft again, which can be changed."""
    return await taken(call, campaign_life.unschedule(call.connection, call.tenant_id, given.id))


@mutation("campaigns.pause", scope=WRITE, examples=[Example({"id": ID}, {"campaign": _PAUSED})])
async def pause(call: Call, given: CampaignId) -> CampaignAnswer:
    """Pause a campaign. Within two seconds nothing more leaves; what a provider has already is not called back."""
    return await taken(call, campaign_life.pause(call.connection, call.tenant_id, given.id))


@mutation("campaigns.resume", scope=WRITE, examples=[Example({"id": ID}, {"campaign": _RUNNING})])
async def resume(call: Call, given: CampaignId) -> CampaignAnswer:
    """Let a paused campaign go on, with exactly those recipients that it has not written to."""
    return await taken(call, campaign_life.resume(call.connection, call.tenant_id, given.id))


@mutation(
    "campaigns.cancel",
    scope=WRITE,
    examples=[
        Example({"id": ID}, {"campaign": {**_RUNNING, "status": "canceled", "completedAt": "2026-11-28T16:06:00Z"}})
    ],
)
async def cancel(call: Call, given: CampaignId) -> CampaignAnswer:
    """End a campaign for good. Recipients without a message are `canceled`; receipts of the others still come."""
    return await taken(call, campaign_life.cancel(call.connection, call.tenant_id, given.id))


@mutation(
    "campaigns.again",
    scope=WRITE,
    examples=[
        Example(
            {"id": ID},
            {
                "campaign": {
                    **PROMOTION,
                    "name": "Q1 Promotion (again)",
                    "recipientType": "campaign",
                    "recipientIds": [ID],
                    "originId": ID,
                }
            },
        )
    ],
)
async def again(call: Call, given: RunAgain) -> CampaignAnswer:
    """Make a draft of the same content for the recipients that an ended campaign has not reached.

    These have failed, were canceled, or were skipped because their time was over. Failures that would come again are
    left out, such as of a number that does not exist.
    """
    former = await live(call, given.id, lock=True)
    try:
        made = await campaign_again.again(
            call.connection, former, include_unknown=given.include_unknown, name=given.name
        )
    except NotOver as refused:
        remedy = "Wait until it has ended, or cancel it: campaigns.cancel."
        error = FieldError(pointer("id"), f"This campaign is {refused.status}.", remedy)
        raise Problem(CONFLICT, error.detail, errors=[error]) from None
    return CampaignAnswer(campaign=Campaign.of(made))


@mutation(
    "campaigns.test",
    scope=WRITE,
    examples=[Example({"id": ID, "to": "+14155238886"}, {"message": HELLO | {"content": OFFERS}})],
)
async def test(call: Call, given: SendCampaignTest) -> MessageAnswer:
    """Send a campaign to yourself, or to any one contact, to look at it. The campaign does not count it.

    A new address becomes a contact. The window and opt-outs hold; quiet hours, waves and pauses don't. Follow the
    message by conversations.messages.
    """
    campaign = await live(call, given.id, lock=True)
    if (given.to is None) == (given.contact_id is None):
        raise invalid("to", "It is to be sent to one contact.", "Give either `to` or `contactId`.")
    if given.contact_id is not None:
        known = await contact_records.known(call.connection, call.tenant_id, [given.contact_id])
        if not known.get(given.contact_id):
            raise not_found("contact", "contactId")
    cause, handoff = call.idempotency_key or str(new_id()), timedelta(seconds=call.settings.handoff_lease)
    try:
        contact_id = given.contact_id or await contact_of(call.connection, campaign, given.to or "")
        queued, job = await send_test(call.connection, campaign, contact_id, cause, handoff, variant=given.variant)
    except NotReady as refused:
        raise not_ready(refused) from None
    except NotQueued as refused:
        raise invalid("to" if given.to is not None else "contactId", refused.reason, _TEST_REMEDY) from None
    if job is not None:
        call.publish(job)
    return MessageAnswer(message=Message.of(queued))


async def taken(call: Call, step: Awaitable[Moved | None]) -> CampaignAnswer:
    """Take a step of a campaign's life, and publish its jobs. Raises the problem of one that can't be taken."""
    try:
        moved = await step
    except NotNow as refused:
        raise _not_now(refused) from None
    except NotReady as refused:
        raise not_ready(refused) from None
    if moved is None:
        raise not_found("campaign")
    call.publish(*moved.jobs)
    return CampaignAnswer(campaign=Campaign.of(moved.campaign))


def not_ready(refused: NotReady) -> Problem:
    """The problem that names all that is wrong with a campaign: with the call's input, or with what it holds."""
    errors = [FieldError(pointer(*_path(one.field)), one.reason, one.remedy) for one in refused.wrongs]
    kind = INVALID_INPUT if refused.wrongs[0].field[0] in ("at", "to") else CONFLICT
    return Problem(kind, f"{errors[0].pointer}: {errors[0].detail}", errors=errors[:MOST_ERRORS])


def _path(field: tuple[str, ...]) -> tuple[str, ...]:
    """A path of the row as the API writes it. The names of variables are the author's."""
    return field if field[0] == "variables" else tuple(map(to_camel, field))


def _not_now(refused: NotNow) -> Problem:
    *others, last = sorted(MOVES[refused.step].start)
    states = f"{', '.join(others)} or {last}" if others else last
    error = FieldError(pointer("id"), f"This campaign is {refused.status}.", f"It must be {states} for this.")
    return Problem(CONFLICT, error.detail, errors=[error])
