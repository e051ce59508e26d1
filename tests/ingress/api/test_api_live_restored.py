"""Streams of events when the database is replaced by one of the past, or is away: no gap that nobody hears of."""

import orjson
import pytest

from ingress.api.live.hub import Hub
from shared.domain.event_cursor import LAST
from shared.settings import Settings
from shared.store.messages import restored
from tests.support.api import ApiStage
from tests.support.live import connected, end_sessions, happen, numbers


@pytest.fixture(autouse=True)
def hubs(monkeypatch: pytest.MonkeyPatch) -> list[Hub]:
    """The hub of the API, once it serves. It looks often whether the database is the same one."""
    found: list[Hub] = []
    start = Hub.start

    def noted(one: Hub) -> None:
        found.append(one)
        start(one)

    monkeypatch.setattr(Hub, "start", noted)
    monkeypatch.setattr("ingress.api.live.hub.CHECK_EVERY", 0.1)
    return found


async def test_another_history_has_other_cursors(api: ApiStage) -> None:
    """As after `palomar failover` over a snapshot: system, database and timeline are those of before."""
    ana = await api.tenant()
    async with connected(api.client, ana) as client:
        await client.next("started")
        await happen(api.pool, ana, "message.sent", number=1)
        (before,) = await client.events(1)
        async with api.pool.acquire() as connection:
            await restored.begin_epoch(connection)
        assert (await client.next("reconnect"))["withinMs"] >= 0
    await happen(api.pool, ana, "message.sent", number=2)
    async with connected(api.client, ana, {"after": before["id"]}) as client:
        started = await client.next()
        assert (started["recovered"], started["reason"]) == (False, "epoch")
        await happen(api.pool, ana, "message.sent", number=3)
        assert numbers(await client.events(1)) == [3]
    listed = await api.get("/v1/events", ana, params={"after": before["id"]})
    assert (listed.body["recovered"], listed.body["reason"], listed.body["events"]) == (False, "epoch", [])


async def test_a_place_that_lies_ahead_is_none_of_this_history(api: ApiStage, hubs: list[Hub]) -> None:
    """The process outlives the restore. What happens next has numbers that it believes to have delivered."""
    ana = await api.tenant()
    async with connected(api.client, ana) as client:
        await client.next("started")
        (hub,) = hubs
        hub.place = (2**40, LAST)
        await happen(api.pool, ana, "message.sent", number=1)
        last = (await client.next("reconnect"))["id"]
    async with connected(api.client, ana, {"after": last}) as client:
        assert (await client.next())["recovered"] is True
        assert numbers(await client.events(1)) == [1]


async def test_an_outage_ends_no_subscription_of_trpc(settings: Settings, api: ApiStage, hubs: list[Hub]) -> None:
    """Its clients don't subscribe again after an error."""
    ana = await api.tenant()
    asked = {"id": 1, "method": "subscription", "params": {"path": "events.live", "input": {}}}
    async with api.client.ws_connect(f"/trpc?token={ana.key}") as socket:
        await socket.send_str(orjson.dumps(asked).decode())
        assert orjson.loads(await socket.receive_str(timeout=10))["result"] == {"type": "started"}
        assert orjson.loads(await socket.receive_str(timeout=10))["result"]["data"]["data"]["type"] == "started"
        seen: list[int] = []
        for number in range(3):
            if number:
                hubs[0]._end_streams()  # each follows again from the table,
                await end_sessions(settings)  # which can't be read at this moment
            await happen(api.pool, ana, "message.sent", number=number)
            while len(seen) <= number:
                result = orjson.loads(await socket.receive_str(timeout=20))["result"]
                assert result["type"] == "data"
                if (data := result["data"]["data"])["type"] == "event":
                    seen.append(data["event"]["data"]["number"])
        assert seen == [0, 1, 2]
