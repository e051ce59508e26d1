"""campaigns.preview and costs: who would get it, who not and why, for how much; and nothing is written."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from shared.store.campaigns.audience import LIMIT
from tests.ingress.api.test_api_campaigns import drafted
from tests.ingress.api.test_api_contacts import created
from tests.support.api import ApiStage, Tenant
from tests.support.api_campaigns import add_campaign
from tests.support.api_conversations import add_channel

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def previewed(api: ApiStage, whose: Tenant, campaign: dict[str, Any], limit: int) -> dict[str, Any]:
    """All pages, added up."""
    found: dict[str, Any] = {"recipients": 0, "skipped": Counter(), "incomplete": [], "pages": 0, "messages": 0}
    cursor: str | None = ""
    while cursor is not None:
        given = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        answer = await api.get(f"/v1/campaigns/{campaign['id']}/preview", whose, params=given)
        assert answer.status == 200, answer.body
        page = answer.body
        found["recipients"] += page["recipients"]
        found["messages"] += page["forecast"]["messages"]
        found["skipped"] += Counter(page["skipped"])
        found["incomplete"] += page["incomplete"]
        found["pages"] += 1
        cursor = page["nextCursor"]
    return found


async def group_of(api: ApiStage, whose: Tenant, *contacts: str) -> str:
    made = (await api.post("/v1/groups", whose, {"name": "Customers"})).body["group"]["id"]
    answer = await api.post(f"/v1/groups/{made}/add-contacts", whose, {"contactIds": list(contacts)})
    assert answer.status == 200, answer.body
    return str(made)


@pytest.mark.parametrize("limit", [2, LIMIT])
async def test_pages_add_up_and_a_contact_in_two_groups_counts_once(api: ApiStage, limit: int) -> None:
    ana = await api.tenant()
    contacts = [(await created(api, ana, f"+3460000{n:04}"))["id"] for n in range(5)]
    for contact in contacts[:1] + contacts[2:]:
        await api.patch(f"/v1/contacts/{contact}", ana, {"name": "Ana"})
    await api.patch(f"/v1/contacts/{contacts[2]}", ana, {"isActive": False})
    stop = {"contactId": contacts[3], "channelKind": "sms"}
    await api.post("/v1/consents/opt-out", ana, stop)
    groups = [await group_of(api, ana, *contacts[:4]), await group_of(api, ana, *contacts[2:])]
    made = await drafted(
        api, ana, whatsappInstanceId=str(await add_channel(api, ana, kind="sms")), message="Hi {{contact.name}}",
        recipientType="groups", recipientIds=groups,
    )  # fmt: skip
    found = await previewed(api, ana, made, limit)
    assert found["recipients"] == found["messages"] == 2
    assert found["skipped"] == {"missing_variables": 1, "inactive": 1, "opted_out": 1}
    assert found["incomplete"] == [{"contactId": contacts[1], "missing": ["contact.name"]}]
    assert (found["pages"] > 2) == (limit == 2)
    assert await api.pool.fetchval("SELECT count(*) FROM campaign_recipients WHERE tenant_id = $1", ana.id) == 0


async def test_the_forecast_is_by_the_operators_prices(api: ApiStage) -> None:
    ana = await api.tenant()
    await api.pool.execute(
        """INSERT INTO message_rates (provider, kind, market, category, price, currency, valid_from)
        VALUES ('twilio', 'sms', 'ES', 'sms', 0.05, 'EUR', '2020-01-01') ON CONFLICT DO NOTHING"""
    )
    for number in ("+34600000001", "+34600000002", "+525512345678"):
        await created(api, ana, number)
    made = await drafted(api, ana, whatsappInstanceId=str(await add_channel(api, ana, kind="sms")), recipientType="all")
    page = (await api.get(f"/v1/campaigns/{made['id']}/preview", ana)).body
    assert page["callingCodes"] == {"+34": 2, "+52": 1}
    assert page["forecast"] == {"messages": 3, "amounts": {"EUR": page["forecast"]["amounts"]["EUR"]}, "withoutRate": 1}
    assert float(page["forecast"]["amounts"]["EUR"]) == 0.1


async def test_what_keeps_a_campaign_from_starting_is_said(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana)
    for answer in (
        await api.get(f"/v1/campaigns/{made['id']}/preview", ana),
        await api.post(f"/v1/campaigns/{made['id']}/start", ana, {}),
    ):
        assert answer.problem == "conflict"
        assert answer.pointers == ["#/recipientType"]
    for column, value in (("settings", '{"rate": "fast"}'), ("recipient_filter", '{"tags": 7}')):
        campaign_id = await add_campaign(api, ana)
        await api.pool.execute(f"UPDATE campaigns SET {column} = $2::text::jsonb WHERE id = $1", campaign_id, value)
        assert (await api.post(f"/v1/campaigns/{campaign_id}/start", ana, {})).problem == "conflict"


async def test_costs_are_the_sums_of_the_ledger(api: ApiStage) -> None:
    ana = await api.tenant()
    campaign_id: UUID = await add_campaign(api, ana, "running")
    assert (await api.get(f"/v1/campaigns/{campaign_id}/costs", ana)).body == {"costs": []}
    await api.pool.execute(
        """INSERT INTO campaign_costs
            (tenant_id, campaign_id, market, category, type, currency, messages, units, amount)
        VALUES ($1, $2, 'ES', 'marketing', 'regular', 'EUR', 2, 2, 0.123),
            ($1, $2, 'MX', 'marketing', 'regular', '', 1, 1, 0)""",
        ana.id,
        campaign_id,
    )
    first, second = (await api.get(f"/v1/campaigns/{campaign_id}/costs", ana)).body["costs"]
    assert (first["market"], first["messages"], float(first["amount"])) == ("ES", 2, 0.123)
    assert (second["market"], second["currency"], second["amount"]) == ("MX", None, None)
    eva = await api.tenant()
    assert (await api.get(f"/v1/campaigns/{campaign_id}/costs", eva)).problem == "not-found"
