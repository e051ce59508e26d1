"""campaigns.progress, recipients and results: what became of each recipient, page by page and as a file."""

import csv
from io import StringIO
from uuid import UUID

import orjson
import pytest

from shared.store.campaigns import recipients as store
from shared.store.campaigns.recipients import CROWDED, STATUSES
from tests.support.api import ApiStage, Tenant
from tests.support.api_campaigns import add_campaign, add_recipient, export

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def with_recipients(api: ApiStage, whose: Tenant, *states: str) -> tuple[UUID, list[UUID]]:
    """A running campaign with a recipient in each of these states; its id, and its contacts."""
    campaign_id = await add_campaign(api, whose, "running")
    return campaign_id, [await add_recipient(api, whose, campaign_id, state) for state in states]


async def test_progress_has_the_recipients_by_state(api: ApiStage) -> None:
    ana = await api.tenant()
    states = [state for place, state in enumerate(STATUSES) for _ in range(place + 1)]
    campaign_id, _ = await with_recipients(api, ana, *states)
    await api.pool.execute(
        """UPDATE campaigns SET wave = 1, progress = '{"rate": 9.5, "eta": "2026-11-28T16:07:00+00:00"}'
        WHERE id = $1""",
        campaign_id,
    )
    shown = (await api.get(f"/v1/campaigns/{campaign_id}/progress", ana)).body
    assert list(shown["counts"].values()) == [place + 1 for place in range(len(STATUSES))]
    assert (shown["recipients"], shown["waiting"], shown["isCounted"]) == (len(states), 1 + 2 + 3, True)
    assert (shown["rate"], shown["eta"], shown["wave"]) == (9.5, "2026-11-28T16:07:00Z", 1)
    assert shown["variants"] == []


@pytest.mark.parametrize("status", [None, "delivered", "failed"])
async def test_recipients_are_listed_page_by_page_each_once(api: ApiStage, status: str | None) -> None:
    ana = await api.tenant()
    campaign_id, contacts = await with_recipients(api, ana, *["delivered", "failed"] * 4)
    await with_recipients(api, ana, "failed", "delivered")
    found: list[str] = []
    cursor = None
    while True:
        given = {"limit": "3"} | ({"status": status} if status else {}) | ({"cursor": cursor} if cursor else {})
        page = (await api.get(f"/v1/campaigns/{campaign_id}/recipients", ana, params=given)).body
        found += [one["contactId"] for one in page["recipients"]]
        if (cursor := page["nextCursor"]) is None:
            break
        assert len(page["recipients"]) == 3
    expected = contacts if status is None else contacts[0::2] if status == "delivered" else contacts[1::2]
    assert sorted(found) == sorted(map(str, expected))
    assert len(found) == len(set(found))


async def test_a_page_of_a_crowded_state_reads_a_bounded_number(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "failed" not in CROWDED, "an index has few of these"
    ana = await api.tenant()
    campaign_id, _ = await with_recipients(api, ana, *["sent"] * 3, "read")
    monkeypatch.setattr(store, "_SOME", store._SOME.replace(f"LIMIT {store.MOST_READ}", "LIMIT 2"))
    monkeypatch.setattr(store, "_SOME_READ", store._SOME_READ.replace(f"OFFSET {store.MOST_READ - 1}", "OFFSET 1"))
    found, pages, cursor = 0, 0, ""
    while cursor is not None:
        given = {"status": "read"} | ({"cursor": cursor} if cursor else {})
        page = (await api.get(f"/v1/campaigns/{campaign_id}/recipients", ana, params=given)).body
        found, pages, cursor = found + len(page["recipients"]), pages + 1, page["nextCursor"]
    assert (found, pages > 1) == (1, True)


async def test_results_are_a_file_of_csv_or_ndjson(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AT_ONCE", 2)
    ana = await api.tenant()
    campaign_id, contacts = await with_recipients(api, ana, "delivered", "failed", "failed", "skipped", "pending")
    await api.pool.execute("UPDATE contacts SET name = '=1+1' WHERE id = $1", contacts[0])
    lines = list(csv.DictReader(StringIO(await export(api, ana, campaign_id))))
    assert {line["contactId"]: line["status"] for line in lines} == {
        str(contact): status
        for contact, status in zip(contacts, ("delivered", "failed", "failed", "skipped", "pending"), strict=True)
    }
    assert next(line["name"] for line in lines if line["status"] == "delivered") == "'=1+1", "no formula"
    objects = [orjson.loads(line) for line in (await export(api, ana, campaign_id, "ndjson")).splitlines()]
    assert {one["contactId"] for one in objects} == set(map(str, contacts))
    failed = await export(api, ana, campaign_id, "ndjson", status="failed")
    assert {orjson.loads(line)["contactId"] for line in failed.splitlines()} == set(map(str, contacts[1:3]))


async def test_another_tenants_campaign_is_not_there(api: ApiStage) -> None:
    ana, eva = await api.tenant(), await api.tenant()
    campaign_id, _ = await with_recipients(api, ana, "sent")
    for path in ("progress", "recipients"):
        assert (await api.get(f"/v1/campaigns/{campaign_id}/{path}", eva)).problem == "not-found"
    answer = await api.get("/v1/campaigns/results.csv", eva, params={"id": str(campaign_id)})
    assert answer.problem == "not-found"
