"""contacts.*: what a tenant can do with the people it talks to."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from uuid import uuid4

import pytest

from shared.store import contact_records
from tests.support.api import ApiStage, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANA = "+14155238886"


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def created(api: ApiStage, whose: Tenant, phone: str = ANA, **more: Any) -> dict[str, Any]:
    answer = await api.post("/v1/contacts", whose, {"phoneNumber": phone, **more})
    assert answer.status == 201, answer.body
    contact: dict[str, Any] = answer.body["contact"]
    return contact


async def test_a_contact_is_created_read_changed_deleted_and_restored_each_with_its_event(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await created(api, ana, "whatsapp:+1 (415) 523-8886", name=" Ana ")
    assert made["phoneNumber"] == ANA
    assert made["name"] == "Ana"
    assert made["tenantId"] == str(ana.id)
    assert made["isActive"] is True
    at = f"/v1/contacts/{made['id']}"
    assert (await api.get(at, ana)).body == {"contact": made}
    assert (await api.get("/v1/contacts", ana)).body == {"contacts": [made], "nextCursor": None}

    changed = (await api.patch(at, ana, {"name": None, "isActive": False})).body["contact"]
    assert (changed["name"], changed["isActive"], changed["phoneNumber"]) == (None, False, ANA)
    assert (await api.get("/v1/contacts", ana, params={"isActive": "true"})).body["contacts"] == []
    assert (await api.patch(at, ana, {})).body == {"contact": changed}, "nothing changes, nothing happens"

    assert (await api.delete(at, ana)).body["contact"]["deletedAt"] is not None
    assert (await api.delete(at, ana)).problem == "not-found"
    assert (await api.get(at, ana)).problem == "not-found"
    assert [one["id"] for one in (await api.get("/v1/contacts?deleted=true", ana)).body["contacts"]] == [made["id"]]
    assert (await api.post(f"{at}/restore", ana)).body["contact"]["deletedAt"] is None
    assert (await api.post(f"{at}/restore", ana)).problem == "not-found"

    events = await api.rows("SELECT name, contact_id::text FROM events WHERE tenant_id = $1 ORDER BY seq", ana.id)
    assert [event["name"] for event in events if event["name"].startswith("contact.")] == [
        "contact.created", "contact.updated", "contact.deleted", "contact.restored",
    ]  # fmt: skip
    assert {event["contact_id"] for event in events if event["contact_id"]} == {made["id"]}


async def test_one_number_is_one_contact(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await created(api, ana)
    again = await api.post("/v1/contacts", ana, {"phoneNumber": "+1 415 523 8886"})
    assert (again.status, again.problem, again.pointers) == (409, "conflict", ["#/phoneNumber"])
    assert made["id"] in again.body["detail"]

    other = await created(api, ana, "+34600000001")
    stolen = await api.patch(f"/v1/contacts/{other['id']}", ana, {"phoneNumber": ANA})
    assert stolen.problem == "conflict"

    await api.delete(f"/v1/contacts/{made['id']}", ana)
    heir = await created(api, ana)
    assert heir["id"] != made["id"]
    restored = await api.post(f"/v1/contacts/{made['id']}/restore", ana)
    assert restored.problem == "conflict"
    assert heir["id"] in restored.body["detail"]


async def test_another_tenants_contact_is_not_there(api: ApiStage) -> None:
    ana, bob = await api.tenant(), await api.tenant()
    made = await created(api, ana)
    assert (await api.get(f"/v1/contacts/{made['id']}", bob)).problem == "not-found"
    assert (await created(api, bob))["id"] != made["id"], "a number is one contact of each tenant"
    assert (await api.get(f"/v1/contacts?tenantId={ana.id}", bob)).problem == "not-found"
    assert (await api.get(f"/v1/contacts?tenantId={bob.id}", bob)).status == 200


async def test_pages_hold_every_contact_once_while_others_are_added(api: ApiStage) -> None:
    ana = await api.tenant()
    made = [(await created(api, ana, f"+3460000{n:04}"))["id"] for n in range(7)]
    seen: list[str] = []
    params = {"limit": "3"}
    for n in range(3):
        page = (await api.get("/v1/contacts", ana, params=params)).body
        seen += [one["id"] for one in page["contacts"]]
        await created(api, ana, f"+3461000{n:04}")
        params["cursor"] = page["nextCursor"] or ""
    assert seen == made[::-1]
    assert params["cursor"] == ""


async def pages(api: ApiStage, whose: Tenant, **params: str) -> list[list[str]]:
    found: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await api.get("/v1/contacts", whose, params=params | cursor)).body
        found.append([one["name"] for one in answer["contacts"]])
        if answer["nextCursor"] is None:
            return found
        cursor = {"cursor": answer["nextCursor"]}


async def test_a_page_reads_a_bounded_number_of_contacts(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_AMONG_LIVE", "_AMONG_DELETED"):
        few = [
            text.replace("LIMIT 1000", "LIMIT 3").replace("OFFSET 999", "OFFSET 2")
            for text in getattr(contact_records, name)
        ]
        monkeypatch.setattr(contact_records, name, tuple(few))
    ana = await api.tenant()
    for n in range(7):
        await created(api, ana, f"+3460000{n:04}", name=str(n), isActive=n in (0, 4))
    assert await pages(api, ana, isActive="true") == [["4"], [], ["0"]]
    assert await pages(api, ana, isActive="false", limit="4") == [["6", "5", "3", "2"], ["1"]], "they have an index"
    await api.pool.execute("UPDATE contacts SET deleted_at = now()")
    assert await pages(api, ana, isActive="true", deleted="true") == [["4"], [], ["0"]]
    assert await pages(api, ana, isActive="true") == [[]]


async def test_a_cursor_of_another_list_or_filter_is_refused(api: ApiStage) -> None:
    ana = await api.tenant()
    for n in range(3):
        await created(api, ana, f"+3460000{n:04}")
    cursor = (await api.get("/v1/contacts?limit=1", ana)).body["nextCursor"]
    assert (await api.get("/v1/contacts", ana, params={"cursor": cursor, "limit": "2"})).status == 200
    for params in (
        {"cursor": cursor, "isActive": "true"},
        {"cursor": cursor[:-2] + "AA"},
        {"cursor": "ñ"},
        {"cursor": "x"},
    ):
        answer = await api.get("/v1/contacts", ana, params=params)
        assert (answer.status, answer.pointers) == (400, ["#/cursor"])
    assert (await api.get("/v1/api-keys", ana, params={"cursor": cursor})).pointers == ["#/cursor"]


async def test_a_cursor_that_a_client_made_is_refused(api: ApiStage) -> None:
    """PostgreSQL has no such time: the query would fail."""
    ana = await api.tenant()
    for n in range(2):
        await created(api, ana, f"+3460000{n:04}")
    cursor = (await api.get("/v1/contacts?limit=1", ana)).body["nextCursor"]
    text, _, signature = cursor.partition(".")
    filters = urlsafe_b64decode(text + "==")[:8]
    made = urlsafe_b64encode(filters + b'["0001-01-01T00:00:00+14:00","019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c51"]')
    for other in (f"{made.decode().rstrip('=')}.{signature}", made.decode().rstrip("=")):
        answer = await api.get("/v1/contacts", ana, params={"cursor": other})
        assert (answer.status, answer.pointers) == (400, ["#/cursor"])


async def test_if_match_is_refused_where_no_versions_are_compared(api: ApiStage) -> None:
    ana = await api.tenant()
    at = f"/v1/contacts/{(await created(api, ana, ANA))['id']}"
    assert (await api.delete(at, ana)).status == 200
    for answer in (
        await api.post(f"{at}/restore", ana, {}, If_Match='"0"'),
        await api.get("/v1/contacts", ana, If_Match='"0"'),
        await api.post(f"/v1/api-keys/{ana.key_id}/revoke", ana, {}, If_Match='"0"'),
        await api.post("/trpc/contacts.restore", ana, {"id": at}, If_Match='"0"'),
    ):
        wrong = answer.body.get("error", {}).get("data", {}).get("problem", answer.body)["errors"]
        assert (answer.status, [one["pointer"] for one in wrong]) == (400, ["#/If-Match"])
    assert (await api.post(f"{at}/restore", ana, {})).status == 200


async def test_a_change_with_if_match_meets_only_the_version_that_was_seen(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await created(api, ana)
    at = f"/v1/contacts/{made['id']}"
    seen = (await api.get(at, ana)).headers["ETag"]
    assert (await api.get(at, ana, If_None_Match=seen)).status == 304
    assert (await api.patch(at, ana, {"name": "Ana"}, If_Match=seen)).status == 200
    late = await api.patch(at, ana, {"name": "Eva"}, If_Match=seen)
    assert (late.status, late.problem) == (412, "version-mismatch")
    assert (await api.delete(at, ana, If_Match=seen)).status == 412
    now = (await api.get(at, ana)).headers["ETag"]
    assert late.headers["ETag"] == now
    assert (await api.delete(at, ana, If_Match=f'"0", {now}')).status == 200


@pytest.mark.parametrize(
    ("given", "pointer", "remedy"),
    [
        ({}, "#/phoneNumber", "Add it."),
        ({"phoneNumber": 14155238886}, "#/phoneNumber", "Give a string."),
        ({"phoneNumber": "Ana"}, "#/phoneNumber", "international form"),
        ({"phoneNumber": "4155"}, "#/phoneNumber", "international form"),
        ({"phoneNumber": ANA, "name": ""}, "#/name", "at least 1"),
        ({"phoneNumber": ANA, "name": "x" * 201}, "#/name", "at most 200"),
        ({"phoneNumber": ANA, "name": "A\0na"}, "#/name", "Leave that character out."),
        ({"phoneNumber": ANA, "isActive": "true"}, "#/isActive", "true or false"),
        ({"phoneNumber": ANA, "nickname": "A"}, "#/nickname", "Leave it out"),
        ({"phoneNumber": ANA, "a/b~c": 1}, "#/a~1b~0c", "Leave it out"),
        ({"phone_number": ANA}, "#/phone_number", "Leave it out"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_with_its_remedy(
    api: ApiStage, given: dict[str, Any], pointer: str, remedy: str
) -> None:
    answer = await api.post("/v1/contacts", await api.tenant(), given)
    assert (answer.status, answer.problem) == (400, "invalid-input")
    found = {error["pointer"]: error["remedy"] for error in answer.body["errors"]}
    assert remedy in found[pointer]
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_an_id_in_the_body_must_be_the_paths(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await created(api, ana)
    at = f"/v1/contacts/{made['id']}"
    assert (await api.patch(at, ana, {"id": made["id"], "name": "Ana"})).status == 200
    assert (await api.patch(at, ana, {"id": str(uuid4()), "name": "Ana"})).pointers == ["#/id"]
    assert (await api.get("/v1/contacts/none", ana)).pointers == ["#/id"]
