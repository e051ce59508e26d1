"""Events over plain HTTP: as server-sent events, and as a feed to pull."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from ingress.api.live import door
from shared.settings import Settings
from tests.support.api import ApiStage, serving
from tests.support.live import connected, happen, numbers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


# -- server-sent events ------------------------------------------------------------------------------------------------


async def messages(answer: aiohttp.ClientResponse, count: int) -> list[tuple[str, dict[str, Any]]]:
    """The next messages of a stream of server-sent events: id and data."""
    found: list[tuple[str, dict[str, Any]]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            lines = (await answer.content.readuntil(b"\n\n")).decode().splitlines()
            fields = dict(line.split(": ", 1) for line in lines if line)
            found.append((fields["id"], orjson.loads(fields["data"])))
    return found


async def test_the_same_items_come_as_server_sent_events(settings: Settings) -> None:
    origin = "https://console.example.com"
    async with serving(settings.model_copy(update={"api_cors_origins": (origin,)})) as api:
        ana = await api.tenant()
        headers = {"Authorization": f"Bearer {ana.key}", "Origin": origin}
        async with api.client.get("/v1/live?names=message_held", headers=headers) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/event-stream"
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            await messages(answer, 1)
            await happen(api.pool, ana, "message.held", "message.sent", "message.held", number=1)
            (first, one), (_, two) = await messages(answer, 2)
            assert [one["event"]["name"], two["event"]["name"]] == ["message_held"] * 2
            assert first == one["id"] == one["event"]["id"]
        async with api.client.get("/v1/live", headers={**headers, "Last-Event-ID": first}) as answer:
            got = [data for _, data in await messages(answer, 3)]
            assert [one["type"] for one in got] == ["started", "event", "event"]
            assert [one["event"]["name"] for one in got[1:]] == ["message_status_changed", "message_held"]


async def test_what_is_wrong_with_a_request_is_a_problem(api: ApiStage) -> None:
    ana = await api.tenant()
    assert (await api.get("/v1/live", None)).status == 401
    assert (await api.get("/v1/live", ana, params={"after": "x"})).pointers == ["#/after"]
    assert (await api.get("/v1/live", ana, Last_Event_ID="x")).pointers == ["#/lastEventId"]
    assert (await api.post("/v1/live", ana)).problem == "method-not-allowed"
    assert (await api.get("/v1/live", ana, Upgrade="websocket", Connection="Upgrade")).problem == "parse-error"


async def test_a_stop_ends_server_sent_events(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LEAVING", 10.0)
    async with aiohttp.ClientSession() as session:
        async with serving(settings) as api:
            ana = await api.tenant()
            url, headers = f"http://127.0.0.1:{api.port}/v1/live", {"Authorization": f"Bearer {ana.key}"}
            answer = await session.get(url, headers=headers)
            await messages(answer, 1)
        text = (await answer.read()).decode()
        assert text.startswith("retry: ")
        assert '"type":"reconnect"' in text


# -- the feed to pull --------------------------------------------------------------------------------------------------


async def test_the_feed_goes_on_where_it_ended(api: ApiStage) -> None:
    ana = await api.tenant()
    at = (await api.get("/v1/events", ana, params={"after": "now"})).body
    assert (at["events"], at["recovered"], at["hasMore"]) == ([], None, False)
    for number in range(7):
        await happen(api.pool, ana, "message.sent", number=number)
    seen: list[int] = []
    cursor_now = at["cursor"]
    for expected in (3, 3, 1, 0):
        page = (await api.get("/v1/events", ana, params={"after": cursor_now, "limit": "3"})).body
        assert (len(page["events"]), page["recovered"]) == (expected, True)
        seen += numbers(page["events"])
        cursor_now = page["cursor"]
    assert seen == list(range(7))
    one = (await api.get("/v1/events", ana, params={"after": at["cursor"], "names": "contact_created"})).body
    assert (one["events"], one["hasMore"]) == ([], False)


async def test_without_a_cursor_the_feed_begins_with_what_is_stored(api: ApiStage) -> None:
    ana = await api.tenant()
    everything = (await api.get("/v1/events", ana)).body
    names = [one["name"] for one in everything["events"]]
    assert names == ["tenant_updated", "api_key_created"]
    after = everything["events"][0]["id"]
    rest = (await api.get("/v1/events", ana, params={"after": after})).body
    assert [one["name"] for one in rest["events"]] == ["api_key_created"]
    assert rest["recovered"] is True


async def test_what_a_tenant_records_by_sql_harms_no_stream(api: ApiStage) -> None:
    ana = await api.tenant()
    detail = '{"deep": {"a": []}, "far": 1e400, "list": [1], "long_name": "é", "n": null}'
    async with connected(api.client, ana) as client:
        await client.next("started")
        for name, stored in (("shop.order_paid", detail), ("x", "[1]"), ("contact.created", '"text"')):
            await api.pool.execute(
                "INSERT INTO events (name, tenant_id, detail) VALUES ($1, $2, $3::text::jsonb)", name, ana.id, stored
            )
        first, second, third = await client.events(3)
    assert (first["name"], second["name"], third["name"]) == ("other", "other", "contact_created")
    assert first["data"]["event"] == "shop.order_paid"
    assert first["data"]["longName"] == "é"
    listed = (await api.get("/v1/events", ana)).body["events"][-3:]
    assert [one["data"].get("event") for one in listed] == ["shop.order_paid", "x", None]
