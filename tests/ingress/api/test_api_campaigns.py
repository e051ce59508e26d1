"""campaigns.*: drafts of one message to many."""

from typing import Any
from uuid import uuid4

import pytest

from tests.ingress.api.test_api_contacts import created
from tests.support.api import ApiStage, Tenant
from tests.support.api_inputs import row

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def drafted(api: ApiStage, whose: Tenant, **more: Any) -> dict[str, Any]:
    channel = await row(api, whose, "channels")
    given = {"whatsappInstanceId": channel, "name": "Q1 Promotion", "message": "Check out our new offers!", **more}
    answer = await api.post("/v1/campaigns", whose, given)
    assert answer.status == 201, answer.body
    campaign: dict[str, Any] = answer.body["campaign"]
    return campaign


async def test_a_draft_is_created_changed_and_deleted_each_with_its_event(api: ApiStage) -> None:
    ana = await api.tenant()
    group = await row(api, ana, "groups")
    made = await drafted(api, ana, tenantId=str(ana.id), recipientType="groups", recipientIds=[group, group])
    assert (made["status"], made["recipientIds"], made["totalRecipients"]) == ("draft", [group], 0)
    at = f"/v1/campaigns/{made['id']}"
    assert (await api.get(at, ana)).body == {"campaign": made}
    contact = (await created(api, ana))["id"]
    changed = await api.patch(at, ana, {"recipientType": "contacts", "recipientIds": [contact]})
    assert changed.body["campaign"]["recipientIds"] == [contact]
    assert (await api.get("/v1/campaigns?status=running", ana)).body["campaigns"] == []
    assert (await api.delete(at, ana)).body["campaign"]["deletedAt"] is not None
    assert (await api.get(at, ana)).problem == "not-found"
    events = await api.events(ana, "campaign")
    assert [one["name"] for one in events] == ["campaign.created", "campaign.updated", "campaign.deleted"]
    assert events[0]["detail"] == {"campaign_id": made["id"], "status": "draft"}


@pytest.mark.parametrize(
    ("given", "problem", "pointer"),
    [
        ({"message": None}, "invalid-input", "#/message"),
        ({"recipientIds": [str(uuid4())]}, "invalid-input", "#/recipientType"),
        ({"recipientIds": [str(uuid4())], "recipientType": "groups"}, "not-found", "#/recipientIds/0"),
        ({"recipientIds": [str(uuid4())], "recipientType": "contacts"}, "not-found", "#/recipientIds/0"),
        ({"whatsappInstanceId": str(uuid4())}, "not-found", "#/whatsappInstanceId"),
        ({"messageTemplateId": str(uuid4())}, "not-found", "#/messageTemplateId"),
    ],
)
async def test_a_campaign_names_what_is_there(api: ApiStage, given: dict[str, Any], problem: str, pointer: str) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana)
    full = {"whatsappInstanceId": made["whatsappInstanceId"], "name": "Q2", "message": "Hi"}
    for answer in (
        await api.post("/v1/campaigns", ana, full | given),
        await api.patch(f"/v1/campaigns/{made['id']}", ana, given),
    ):
        assert (answer.problem, answer.pointers) == (problem, [pointer])


async def test_only_a_draft_is_changed_and_none_at_work_is_deleted(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await drafted(api, ana)
    at = f"/v1/campaigns/{made['id']}"
    await api.pool.execute("UPDATE campaigns SET status = 'running' WHERE id = $1::text::uuid", made["id"])
    assert (await api.patch(at, ana, {"name": "Other"})).problem == "conflict"
    assert (await api.delete(at, ana)).problem == "conflict"
    await api.pool.execute("UPDATE campaigns SET status = 'completed' WHERE id = $1::text::uuid", made["id"])
    assert (await api.patch(at, ana, {"name": "Other"})).problem == "conflict"
    assert (await api.delete(at, ana)).status == 200


async def test_a_campaign_for_a_contact_that_was_joined_to_another_is_for_that_one(api: ApiStage) -> None:
    ana = await api.tenant()
    stays, goes = [(await created(api, ana, f"+3460000{n:04}"))["id"] for n in range(2)]
    made = await drafted(api, ana, recipientType="contacts", recipientIds=[goes])
    joined = await api.pool.fetchval("SELECT join_contacts($1, $2::text::uuid, $3::text::uuid)", ana.id, stays, goes)
    assert str(joined) == stays
    assert (await api.get(f"/v1/campaigns/{made['id']}", ana)).body["campaign"]["recipientIds"] == [stays]
