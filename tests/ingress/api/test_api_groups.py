"""groups.*: lists of contacts, and who is in them."""

from uuid import uuid4

import pytest

from tests.ingress.api.test_api_contacts import created
from tests.support.api import ApiStage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def test_a_group_gets_contacts_and_loses_them_each_with_its_event(api: ApiStage) -> None:
    ana = await api.tenant()
    contacts = [(await created(api, ana, f"+3460000{n:04}"))["id"] for n in range(3)]
    made = await api.post("/v1/groups", ana, {"name": "Marketing List", "description": "Q1 Marketing Campaign"})
    group = made.body["group"]
    assert (group["name"], group["description"], group["isActive"]) == ("Marketing List", "Q1 Marketing Campaign", True)
    at = f"/v1/groups/{group['id']}"

    assert (await api.post(f"{at}/add-contacts", ana, {"contactIds": contacts[:2]})).body == {"added": 2}
    assert (await api.post(f"{at}/add-contacts", ana, {"contactIds": contacts})).body == {"added": 1}
    first = (await api.get(f"{at}/contacts?limit=2", ana)).body
    rest = (await api.get(f"{at}/contacts", ana, params={"limit": "2", "cursor": first["nextCursor"]})).body
    assert [one["id"] for one in first["contacts"] + rest["contacts"]] == sorted(contacts, reverse=True)
    assert rest["nextCursor"] is None

    await api.delete(f"/v1/contacts/{contacts[0]}", ana)
    assert contacts[0] not in [one["id"] for one in (await api.get(f"{at}/contacts", ana)).body["contacts"]]
    assert (await api.post(f"{at}/remove-contacts", ana, {"contactIds": contacts[:2]})).body == {"removed": 2}
    assert (await api.post(f"{at}/remove-contacts", ana, {"contactIds": contacts[:2]})).body == {"removed": 0}

    assert (await api.patch(at, ana, {"description": None})).body["group"]["description"] is None
    assert (await api.delete(at, ana)).body["group"]["deletedAt"] is not None
    assert (await api.get(at, ana)).problem == "not-found"
    assert (await api.get(f"{at}/contacts", ana)).pointers == ["#/groupId"]
    events = await api.events(ana, "group")
    assert [(one["name"].removeprefix("group."), len(one["detail"])) for one in events] == [
        ("created", 1), ("updated", 2), ("updated", 2), ("updated", 2), ("updated", 1), ("deleted", 1),
    ]  # fmt: skip
    assert {one["detail"]["group_id"] for one in events} == {group["id"]}


async def test_contacts_are_added_all_or_none(api: ApiStage) -> None:
    ana = await api.tenant()
    contacts = [(await created(api, ana, f"+3460000{n:04}"))["id"] for n in range(2)]
    await api.delete(f"/v1/contacts/{contacts[1]}", ana)
    group = (await api.post("/v1/groups", ana, {"name": "List"})).body["group"]["id"]
    for missing in (str(uuid4()), contacts[1]):
        answer = await api.post(f"/v1/groups/{group}/add-contacts", ana, {"contactIds": [contacts[0], missing]})
        assert (answer.problem, answer.pointers) == ("not-found", ["#/contactIds/1"])
    assert (await api.get(f"/v1/groups/{group}/contacts", ana)).body["contacts"] == []
