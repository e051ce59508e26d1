"""campaigns.preview and costs: who would get a campaign and for how much, before it starts; and what it has cost."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.campaign_models import ID, CampaignId
from ingress.api.declaration import Example, query
from ingress.api.models import ListInput, Output, Page, Part
from ingress.api.problems import not_found
from ingress.api.procedures.campaign_life import not_ready
from ingress.api.procedures.campaigns import READ, live
from shared.actions import campaign_audience, campaign_start
from shared.actions.campaign_start import NotReady
from shared.domain.campaigns.prices import Forecast
from shared.store import channels
from shared.store.campaigns import costs as ledger
from shared.store.campaigns.audience import LIMIT, Place
from shared.store.campaigns.costs import CostLine
from shared.store.campaigns.preview import Preview

_POSITION: Final = TypeAdapter(tuple[int, UUID | None])

_PREVIEW: Final[dict[str, Any]] = {
    "recipients": 950,
    "skipped": {"opted_out": 40, "missing_variables": 1, "no_address": 9},
    "incomplete": [{"contactId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d", "missing": ["contact.name"]}],
    "callingCodes": {"+34": 900, "+52": 50},
    "forecast": {"messages": 950, "amounts": {"EUR": "55.3500"}, "withoutRate": 50},
    "nextCursor": None,
}
_LINE: Final[dict[str, Any]] = {
    "market": "ES",
    "category": "marketing",
    "type": "regular",
    "currency": "EUR",
    "messages": 900,
    "units": 900,
    "amount": "55.3500",
}


class PreviewCampaign(CampaignId, ListInput):
    limit: int = Field(default=LIMIT, ge=1, le=LIMIT, description="The most contacts that one page looks at.")


class IncompleteRecipient(Part):
    """A contact that would be skipped: placeholders without a default stand for nothing."""

    contact_id: UUID
    missing: list[str] = Field(description="The placeholders' names.")


class CampaignForecast(Part):
    """What the messages to a page's recipients would cost today, by the prices that your operator has loaded."""

    messages: int
    amounts: dict[str, Decimal] = Field(description="By currency.")
    without_rate: int = Field(description="Messages that no price is loaded for. They are in no amount.")

    @classmethod
    def of(cls, forecast: Forecast) -> "CampaignForecast":
        return cls(messages=forecast.messages, amounts=dict(forecast.amounts), without_rate=forecast.without_rate)


class CampaignPreview(Page):
    """What would become of a page of contacts. Add the pages up."""

    recipients: int = Field(description="They would be written to.")
    skipped: dict[str, int] = Field(description="Contacts that would not be, by the reason.")
    incomplete: list[IncompleteRecipient] = Field(description="Of missing_variables; at most 100 of a page.")
    calling_codes: dict[str, int] = Field(description="Of the recipients' numbers; an empty name: of no number.")
    forecast: CampaignForecast


class CampaignCost(Part):
    """The sum of a campaign's messages of one kind."""

    market: str
    category: str
    type: str
    currency: str | None = Field(description="null: no price was loaded when they were charged.")
    messages: int
    units: int = Field(description="Segments of SMS; else messages.")
    amount: Decimal | None

    @classmethod
    def of(cls, line: CostLine) -> "CampaignCost":
        return cls(
            market=line.market,
            category=line.category,
            type=line.type,
            currency=line.currency,
            messages=line.messages,
            units=line.units,
            amount=line.amount,
        )


class CampaignCosts(Output):
    costs: list[CampaignCost]


@query("campaigns.preview", scope=READ, examples=[Example({"id": ID}, _PREVIEW)])
async def preview(call: Call, given: PreviewCampaign) -> CampaignPreview:
    """Count the contacts that would get a campaign, and those that would not: a dry run. Nothing is written.

    A page looks at `limit` contacts. Go on with `nextCursor` until it is null, and add the pages up. A contact in
    several groups counts once.
    """
    campaign = await live(call, given.id)
    channel = await channels.get(call.connection, call.tenant_id, campaign.values.channel_id)
    if channel is None:
        raise not_found("channel", "whatsappInstanceId")
    try:
        await campaign_start.check(call.connection, campaign)
    except NotReady as refused:
        raise not_ready(refused) from None
    begin = Place(*(cursors.position(call, given, _POSITION) or ()))
    found = await campaign_audience.preview_page(call.connection, campaign, channel, begin, given.limit)
    today = datetime.now(UTC).date()
    forecast = await ledger.forecast(call.connection, call.tenant_id, campaign.id, found.addresses, today)
    return CampaignPreview(
        recipients=found.pending,
        skipped=dict(found.skipped),
        incomplete=[
            IncompleteRecipient(contact_id=one.contact_id, missing=list(one.missing)) for one in found.incomplete
        ],
        calling_codes=dict(found.calling_codes),
        forecast=CampaignForecast.of(forecast),
        next_cursor=_next(call, given, found),
    )


def _next(call: Call, given: PreviewCampaign, found: Preview) -> str | None:
    if found.next is None:
        return None
    return cursors.behind(call, given, _POSITION, (found.next.part, found.next.after))


@query("campaigns.costs", scope=READ, examples=[Example({"id": ID}, {"costs": [_LINE]})])
async def costs(call: Call, given: CampaignId) -> CampaignCosts:
    """Show what a campaign has cost so far, by market, category, type and currency.

    A message has its cost some seconds after its provider charged it. The prices are those that your operator loads.
    """
    await live(call, given.id)
    lines = await ledger.costs(call.connection, call.tenant_id, given.id)
    return CampaignCosts(costs=[CampaignCost.of(line) for line in lines])
