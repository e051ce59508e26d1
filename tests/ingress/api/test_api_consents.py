"""consents.*: the ledger, and what a contact asks the tenant for."""

from typing import Any

import pytest

from shared.store import consent_records
from tests.support.api import Answer, ApiStage, Tenant
from tests.support.api_conversations import add_conversation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def contact_of(api: ApiStage, whose: Tenant) -> str:
    return str(await api.pool.fetchval("SELECT contact_id FROM conversations WHERE tenant_id = $1", whose.id))


async def opt(api: ApiStage, whose: Tenant, way: str, contact_id: str, *, key: str = "", **given: Any) -> Answer:
    headers = {"Idempotency_Key": key} if key else {}
    body = {"contactId": contact_id, "channelKind": "whatsapp"} | given
    return await api.post(f"/v1/consents/opt-{way}", whose, body, **headers)


async def test_an_opt_out_stops_what_is_sent_and_an_opt_in_lifts_it(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    send = f"/v1/conversations/{talk}/send"
    contact = await contact_of(api, ana)
    out = await opt(api, ana, "out", contact, reason="asked by phone")
    (entry,) = out.body["consents"]
    assert (entry["state"], entry["scope"], entry["holds"], entry["source"]) == ("opted_out", "all", True, "api")
    assert entry["evidence"]["reason"] == "asked by phone"
    assert (await api.post(send, ana, {"content": "Hi"})).problem == "conflict"
    assert (await opt(api, ana, "in", contact)).pointers == ["#/evidence"], "no opt-in without evidence"
    again = await opt(api, ana, "in", contact, evidence="form 7, signed")
    assert {(one["state"], one["scope"]) for one in again.body["consents"]} == {
        ("opted_in", "all"), ("opted_in", "blocked"),
    }  # fmt: skip
    assert (await api.post(send, ana, {"content": "Hi"})).status == 200
    events = await api.events(ana, "consent")
    assert [one["name"] for one in events] == ["consent.opted_out", "consent.opted_in", "consent.opted_in"]


async def test_an_opt_out_of_marketing_lets_answers_through(api: ApiStage) -> None:
    ana = await api.tenant()
    talk = await add_conversation(api, ana)
    await opt(api, ana, "out", await contact_of(api, ana), scope="marketing")
    assert (await api.post(f"/v1/conversations/{talk}/send", ana, {"content": "Hi"})).status == 200


async def test_the_ledger_is_listed_by_contact_kind_and_state(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    ana = await api.tenant()
    await add_conversation(api, ana)
    contact = await contact_of(api, ana)
    other = (await api.post("/v1/contacts", ana, {"phoneNumber": "+14155238886"})).body["contact"]["id"]
    await opt(api, ana, "out", other, channelKind="sms")
    for way in ("out", "in"):
        await opt(api, ana, way, contact, scope="marketing", **({"evidence": "a call"} if way == "in" else {}))
    assert await listed(api, ana) == [("opted_in", True), ("opted_out", False), ("opted_out", True)]
    assert await listed(api, ana, contactId=contact) == [("opted_in", True), ("opted_out", False)]
    assert await listed(api, ana, contactId=contact, state="opted_out") == [("opted_out", False)]
    assert await listed(api, ana, channelKind="sms") == [("opted_out", True)]
    first = (await api.get("/v1/consents", ana, params={"limit": "2"})).body
    rest = (await api.get("/v1/consents", ana, params={"limit": "2", "cursor": first["nextCursor"]})).body
    assert [len(page["consents"]) for page in (first, rest)] == [2, 1]
    assert rest["nextCursor"] is None
    for name in ("_PAGE", "_READ_UP_TO"):
        few = getattr(consent_records, name).replace("LIMIT 2000", "LIMIT 2").replace("OFFSET 1999", "OFFSET 1")
        monkeypatch.setattr(consent_records, name, few)
    bounded = (await api.get("/v1/consents", ana, params={"channelKind": "sms"})).body
    assert bounded["consents"] == []
    assert bounded["nextCursor"] is not None


async def test_a_request_is_entered_once_for_ever(api: ApiStage) -> None:
    ana = await api.tenant()
    await add_conversation(api, ana)
    given = {"contactId": await contact_of(api, ana), "channelKind": "whatsapp"}
    for _ in range(2):
        answer = await api.post("/v1/consents/opt-out", ana, given, Idempotency_Key="k")
        assert answer.status == 200
        await api.pool.execute("DELETE FROM idempotency_keys")
    assert len(await api.rows("SELECT FROM consents WHERE tenant_id = $1", ana.id)) == 1


async def test_a_key_that_comes_again_with_another_wish_is_refused(api: ApiStage) -> None:
    ana = await api.tenant()
    await add_conversation(api, ana)
    contact = await contact_of(api, ana)
    other = (await api.post("/v1/contacts", ana, {"phoneNumber": "+14155238886"})).body["contact"]["id"]
    assert (await opt(api, ana, "in", contact, key="k", evidence="form 7")).status == 200
    await api.pool.execute("DELETE FROM idempotency_keys")
    for way, who, given in (
        ("out", contact, {}),
        ("out", other, {}),
        ("in", other, {"evidence": "form 7"}),
        ("in", contact, {"evidence": "form 7", "channelKind": "sms"}),
    ):
        refused = await opt(api, ana, way, who, key="k", **given)
        assert refused.body.get("status") == 422, (way, given)
        assert refused.problem == "idempotency-mismatch"
    assert len(await api.rows("SELECT FROM consents WHERE tenant_id = $1", ana.id)) == 2
    assert (await opt(api, ana, "in", contact, key="k", evidence="form 7")).status == 200


async def listed(api: ApiStage, whose: Tenant, **params: str) -> list[tuple[str, bool]]:
    answer = await api.get("/v1/consents", whose, params=params)
    assert answer.status == 200, answer.body
    return [(one["state"], one["holds"]) for one in answer.body["consents"]]
