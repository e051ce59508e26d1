"""Makes a new campaign for those whom an ended one has not reached."""

from dataclasses import replace
from typing import Final
from uuid import UUID

from shared.actions import campaigns
from shared.database import Connection
from shared.domain.campaigns.life import OVER
from shared.store.campaigns.records import Campaign, CampaignValues

# Of the former campaign's recipients: those that failed where another try may end otherwise, those that were canceled,
# and those that were skipped because their time was over. The freezing leaves out the others.
_NOT_REACHED: Final = ("failed", "canceled", "skipped")


class NotOver(Exception):
    """The campaign is still at work, so that its recipients may yet be reached by it."""

    def __init__(self, campaign: Campaign) -> None:
        super().__init__(f"the campaign is {campaign.status}")
        self.status = campaign.status


async def again(
    connection: Connection, former: Campaign, *, include_unknown: bool = False, name: str | None = None
) -> Campaign:
    """Create a draft of the same content for the recipients that `former` has not reached. Raises NotOver.

    The outcome of some sends is unknown: they may have been reached. These are in it only where a person says so
    (`include_unknown`), for they may get the message twice.
    """
    if former.status not in OVER:
        raise NotOver(former)
    return await campaigns.create(
        connection, former.tenant_id, _values(former, include_unknown, name), origin_id=former.id
    )


def _values(former: Campaign, include_unknown: bool, name: str | None) -> CampaignValues:
    given = former.values
    settings = {key: value for key, value in given.settings.items() if key != "ends_at"}  # it has passed, or will soon
    template = given.message_template_id
    if former.winner is not None:  # the trial is over
        compared = settings.pop("comparison", None)
        if former.winner == 1 and isinstance(compared, dict):
            template = UUID(compared["template_id"])
    statuses = [*_NOT_REACHED, "unknown"] if include_unknown else [*_NOT_REACHED]
    return replace(
        given,
        name=name or f"{given.name} (again)",
        message_template_id=template,
        recipient_type="campaign",
        recipient_ids=(former.id,),
        recipient_filter={"statuses": statuses},
        settings=settings,
        recurrence=None,
    )
