"""campaigns.*: one message to many, as a draft. What is done with it then is in the modules beside this one."""

from functools import partial
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from ingress.api import cursors, public_urls
from ingress.api.call import Call
from ingress.api.campaign_models import (
    GROUP,
    ID,
    INSTANCE,
    OFFERS,
    PROMOTION,
    Campaign,
    CampaignAnswer,
    CampaignId,
    CampaignPage,
    CreateCampaign,
    ListCampaigns,
    UpdateCampaign,
    written,
)
from ingress.api.campaign_parts import check
from ingress.api.declaration import Example, mutation, query
from ingress.api.problems import CONFLICT, VERSION_MISMATCH, FieldError, Problem, not_found, pointer
from shared.actions import campaigns
from shared.actions.campaigns import NotADraft
from shared.database import Connection
from shared.store.campaigns import records as store
from shared.store.campaigns.records import CampaignValues
from shared.store.newest_first import Position

READ: Final = "campaigns:read"
WRITE: Final = "campaigns:write"
_POSITION: Final = TypeAdapter(Position)


@query("campaigns.list", scope=READ, examples=[Example({"limit": 1}, {"campaigns": [PROMOTION], "nextCursor": None})])
async def list_(call: Call, given: ListCampaigns) -> CampaignPage:
    """List campaigns, newest first."""
    rows = await store.page(
        call.connection,
        call.tenant_id,
        status=given.status,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return CampaignPage(campaigns=[Campaign.of(row) for row in shown], next_cursor=next_cursor)


@query("campaigns.get", scope=READ, examples=[Example({"id": ID}, {"campaign": PROMOTION})])
async def get(call: Call, given: CampaignId) -> CampaignAnswer:
    """Get a campaign."""
    return CampaignAnswer(campaign=Campaign.of(await live(call, given.id)))


@mutation(
    "campaigns.create",
    scope=WRITE,
    examples=[
        Example(
            {
                "whatsappInstanceId": INSTANCE,
                "name": "Q1 Promotion",
                "message": OFFERS,
                "recipientType": "groups",
                "recipientIds": [GROUP],
            },
            {"campaign": PROMOTION},
        )
    ],
)
async def create(call: Call, given: CreateCampaign) -> CampaignAnswer:
    """Create a campaign as a draft. Nothing is sent.

    Who is in its groups is looked up when it starts.
    """
    values = written(
        given,
        CampaignValues(given.whatsapp_instance_id, None, given.name, None, None, ()),
        partial(public_urls.checked, call.settings),
    )
    await check(call.connection, call.tenant_id, values, set(CreateCampaign.model_fields))
    return CampaignAnswer(campaign=Campaign.of(await campaigns.create(call.connection, call.tenant_id, values)))


@mutation(
    "campaigns.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID, "name": "Q1 Promotion"}, {"campaign": PROMOTION})],
)
async def update(call: Call, given: UpdateCampaign) -> CampaignAnswer:
    """Change a draft. With If-Match only the version that you have seen is changed."""
    stored = await live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    values = written(given, stored.values, partial(public_urls.checked, call.settings))
    await check(call.connection, call.tenant_id, values, given.model_fields_set)
    try:
        changed = await campaigns.update(call.connection, stored, values)
    except NotADraft as error:
        raise _not_a_draft(error) from None
    return CampaignAnswer(campaign=Campaign.of(changed))


@mutation(
    "campaigns.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": ID}, {"campaign": {**PROMOTION, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: CampaignId) -> CampaignAnswer:
    """Delete a campaign that is not at work. Its messages stay."""
    stored = await live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    try:
        deleted = await campaigns.delete(call.connection, stored)
    except NotADraft as error:
        raise _not_a_draft(error) from None
    return CampaignAnswer(campaign=Campaign.of(deleted))


async def live(
    call: Call, campaign_id: UUID, *, lock: bool = False, connection: Connection | None = None
) -> store.Campaign:
    """The campaign; the problem of one that is not there, or deleted. `connection`: of a call that opens its own."""
    found = await store.get(connection or call.connection, call.tenant_id, campaign_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("campaign")
    return found


def _not_a_draft(error: NotADraft) -> Problem:
    wrong = FieldError(pointer("id"), f"This campaign is {error.status}.", "Only a draft can be changed like this.")
    return Problem(CONFLICT, wrong.detail, errors=[wrong])
