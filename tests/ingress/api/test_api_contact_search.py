"""contacts.search, contacts.addresses, contacts.consents and contacts.erase."""

from datetime import UTC, datetime

import pytest

from shared.actions import consents
from shared.store import contact_search
from shared.store.consents import Entry
from tests.ingress.api.test_api_contacts import ANA, created
from tests.support.api import ApiStage, Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def found(api: ApiStage, whose: Tenant, text: str, **params: str) -> list[str]:
    answer = await api.get("/v1/contacts/search", whose, params={"text": text, **params})
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.body["contacts"]]


async def test_a_contact_is_found_by_a_part_of_its_name_or_number_or_by_a_whole_address(api: ApiStage) -> None:
    ana = await api.tenant()
    for phone, name in (
        (ANA, "Ana López"),
        ("+34600000001", "Mariana"),
        ("+34600000002", "Luis"),
        ("+34600000003", "100%_"),
    ):
        await created(api, ana, phone, name=name)
    assert await found(api, ana, "ANA") == ["Mariana", "Ana López"]
    assert await found(api, ana, "a lóp") == ["Ana López"]
    assert await found(api, ana, "whatsapp:+1 (415) 523-8886") == ["Ana López"]
    assert await found(api, ana, "600 00") == ["100%_", "Luis", "Mariana"]
    assert await found(api, ana, "%_") == ["100%_"], "no text is a pattern"
    assert await found(api, ana, "nobody") == []
    assert await found(api, await api.tenant(), "ana") == []


async def test_a_search_goes_on_where_it_stopped_looking(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_search, "READ_AT_ONCE", 3)
    ana = await api.tenant()
    for n in range(8):
        await created(api, ana, f"+3460000{n:04}", name=f"{'Ana' if n % 4 == 0 else 'Eva'} {n}")
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await api.get("/v1/contacts/search", ana, params={"text": "ana", **cursor})).body
        pages.append([one["name"] for one in answer["contacts"]])
        if answer["nextCursor"] is None:
            break
        cursor = {"cursor": answer["nextCursor"]}
    assert pages == [[], ["Ana 4"], ["Ana 0"]]
    assert await found(api, ana, "eva", limit="2") == ["Eva 7", "Eva 6"]


async def test_addresses_and_consents_of_a_contact(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await created(api, ana, "+5215512345678")
    at = f"/v1/contacts/{made['id']}"
    (address,) = (await api.get(f"{at}/addresses", ana)).body["addresses"]
    assert (address["kind"], address["address"], address["canonical"]) == ("phone", "+5215512345678", "+525512345678")
    assert (await api.get(f"{at}/consents", ana)).body == {"consents": []}
    assert ana.id is not None
    (row,) = await api.rows("SELECT id FROM contacts WHERE tenant_id = $1", ana.id)
    entry = Entry(ana.id, row["id"], "whatsapp", "opted_out", "api", datetime.now(UTC), evidence={"by": "operator"})
    async with api.pool.acquire() as connection, connection.transaction():
        await consents.write(connection, [entry])
    (consent,) = (await api.get(f"{at}/consents", ana)).body["consents"]
    assert (consent["state"], consent["scope"], consent["holds"]) == ("opted_out", "all", True)
    assert consent["evidence"] == {"by": "operator"}
    assert (await api.get("/v1/consents", ana)).body["consents"] == [consent], "as consents.list shows it"


async def test_a_contact_that_is_to_be_erased_is_hidden_at_once(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await created(api, ana)
    at = f"/v1/contacts/{made['id']}"
    first = await api.post(f"{at}/erase", ana)
    assert first.body["contactId"] == made["id"]
    assert (await api.get(at, ana)).problem == "not-found"
    assert (await api.post(f"{at}/erase", ana)).body == first.body, "asked for once"
    restored = await api.post(f"{at}/restore", ana)
    assert (restored.status, restored.problem, restored.pointers) == (409, "conflict", ["#/id"])
    assert (await api.get(at, ana)).problem == "not-found"
    assert ANA not in str(first.body)


async def test_a_contact_without_an_address_to_search_for_is_not_said_to_be_erased(api: ApiStage) -> None:
    ana = await api.tenant()
    contact_id = await api.pool.fetchval(
        "INSERT INTO contacts (tenant_id, id) VALUES ($1, gen_random_uuid()) RETURNING id", ana.id
    )
    answer = await api.post(f"/v1/contacts/{contact_id}/erase", ana)
    assert (answer.problem, answer.pointers) == ("conflict", ["#/id"])
