"""/v1/live: what a client sees of its tenant's events, whatever happens to it or to us."""

import socket as sockets
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from ingress.api import open_sockets
from ingress.api.live import hub, web_socket
from shared.domain.event_cursor import Cursor
from shared.settings import Settings
from tests.support.api import ApiStage, serving
from tests.support.live import Client, connected, end_sessions, happen, numbers


def cursor(text: str, **changes: Any) -> str:
    """A cursor that differs from this one."""
    return str(replace(Cursor.parse(text), **changes))


async def test_events_come_as_they_happen_in_their_order(api: ApiStage) -> None:
    ana = await api.tenant()
    async with connected(api.client, ana) as client:
        started = await client.next()
        assert (started["type"], started["recovered"]) == ("started", None)
        conversation, channel = uuid4(), uuid4()
        await happen(api.pool, ana, "message.received", conversation_id=conversation, channel_id=channel, number=1)
        await happen(api.pool, ana, "message.sent", "message.delivered", number=2)
        first, second, third = await client.events(3)
        assert first["name"] == "message_received"
        assert (first["tenantId"], first["conversationId"]) == (str(ana.id), str(conversation))
        assert [second["data"]["status"], third["data"]["status"]] == ["sent", "delivered"]
        assert numbers([first, second, third]) == [1, 2, 2]


async def test_a_transaction_that_commits_late_is_not_left_out(api: ApiStage) -> None:
    ana = await api.tenant()
    async with connected(api.client, ana) as client, api.pool.acquire() as late:
        await client.next("started")
        transaction = late.transaction()
        await transaction.start()
        await late.execute("INSERT INTO events (name, tenant_id) VALUES ('message.held', $1)", ana.id)
        await happen(api.pool, ana, "message.sent")
        with pytest.raises(TimeoutError):
            await client.next(within=0.5)
        await transaction.commit()
        assert [one["name"] for one in await client.events(2)] == ["message_held", "message_status_changed"]


async def test_what_was_missed_follows_and_then_what_happens(api: ApiStage) -> None:
    ana = await api.tenant()
    async with connected(api.client, ana) as client:
        last = (await client.next())["id"]
    for count in range(0, 1200, 100):  # more than two pages
        await api.pool.execute(MANY, ana.id, count)
    async with connected(api.client, ana, {"after": last}) as client:
        started = await client.next()
        assert (started["recovered"], started["id"]) == (True, last)
        await happen(api.pool, ana, "message.sent", number=1200)
        assert numbers(await client.events(1201)) == list(range(1201))
    middle = client.items[600]["id"]
    async with connected(api.client, ana, {"after": middle}) as client:
        assert numbers(await client.events(601)) == list(range(600, 1201))


async def test_another_tenants_events_never_come(api: ApiStage) -> None:
    ana, bea = await api.tenant(), await api.tenant()
    async with connected(api.client, ana) as of_ana, connected(api.client, bea) as of_bea:
        before = (await of_ana.next())["id"]
        await of_bea.next()
        for number in range(20):
            await happen(api.pool, bea if number % 2 else ana, "message.sent", number=number)
        assert numbers(await of_ana.events(10)) == list(range(0, 20, 2))
        assert numbers(await of_bea.events(10)) == list(range(1, 20, 2))
    async with connected(api.client, ana, {"after": before}) as of_ana:
        assert numbers(await of_ana.events(10)) == list(range(0, 20, 2))
        await happen(api.pool, bea, "message.sent")
        with pytest.raises(TimeoutError):
            await of_ana.next(within=0.3)
    listed = await api.get("/v1/events", bea, params={"after": before, "limit": "200"})
    assert numbers(one for one in listed.body["events"] if "number" in one["data"]) == [*range(1, 20, 2), 0]
    asked = {"subscribe": {"tenantId": str(bea.id)}}
    async with connected(api.client, ana, asked) as of_ana:
        assert await of_ana.to_the_end() == 4404


async def test_a_filter_lets_through_what_is_wanted(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_live_heartbeat": 0.2})) as api:
        ana, talk, channel = await api.tenant(), uuid4(), uuid4()
        wanted = {
            "names": ["message_held", "message_status_changed"],
            "conversationIds": [str(talk)],
            "channelIds": [str(channel)],
        }

        async def all_kinds() -> None:
            number = 0
            for name in ("message.held", "message.sent", "message.received"):
                for one in (talk, uuid4(), None):
                    for other in (channel, uuid4(), None):
                        await happen(api.pool, ana, name, number=number, conversation_id=one, channel_id=other)
                        number += 1

        async with connected(api.client, ana, {"subscribe": wanted}) as client:
            before = (await client.next("started"))["id"]
            await all_kinds()
            assert numbers(await client.events(2)) == [0, 9]
            beats = [await client.next("heartbeat") for _ in range(3)]
            assert Cursor.parse(beats[-1]["id"]).place > Cursor.parse(client.items[-4]["id"]).place
        async with connected(api.client, ana, {"subscribe": wanted, "after": beats[-1]["id"]}) as client:
            assert [(await client.next())["type"] for _ in range(2)] == ["started", "heartbeat"]
        async with connected(api.client, ana, {"subscribe": wanted, "after": before}) as client:
            assert numbers(await client.events(2)) == [0, 9]


@pytest.mark.parametrize("reason", ["too_old", "too_many", "epoch", "to come"])
async def test_what_can_not_be_recovered_is_said(settings: Settings, reason: str) -> None:
    async with serving(settings.model_copy(update={"api_live_recover": 5})) as api:
        ana = await api.tenant()
        async with connected(api.client, ana) as client:
            at = (await client.next())["id"]
        for number in range(5):
            await happen(api.pool, ana, "message.sent", number=number)
        async with connected(api.client, ana, {"after": at}) as client:
            assert (await client.next())["recovered"] is True
            assert numbers(await client.events(5)) == list(range(5))
        match reason:
            case "too_old":
                oldest = await api.pool.fetchval(
                    "SELECT min(right(relname, 8)) FROM pg_class WHERE relname ~ '^events_[0-9]{8}$'"
                )
                at = cursor(at, day=date.fromisoformat(oldest))
            case "too_many":
                await happen(api.pool, ana, "message.sent", number=5)
            case "epoch":
                at = cursor(at, identity=b"123456")
            case "to come":
                at, reason = cursor(at, place=(2**64 - 1, 0)), "epoch"
        async with connected(api.client, ana, {"after": at}) as client:
            started = await client.next()
            assert (started["recovered"], started["reason"]) == (False, reason)
            await happen(api.pool, ana, "message.sent", number=6)
            assert numbers(await client.events(1)) == [6], "and it goes on from now"
        listed = (await api.get("/v1/events", ana, params={"after": at})).body
        if reason == "too_many":  # a page at a time there is no such thing
            assert (listed["recovered"], len(listed["events"])) == (True, 7)
        else:
            assert (listed["recovered"], listed["reason"], listed["events"]) == (False, reason, [])


MANY = """
INSERT INTO events (name, tenant_id, detail)
SELECT 'message.sent', $1::uuid, jsonb_build_object('number', $2::integer + n, 'padding', repeat(md5(n::text), 200))
FROM generate_series(0, 99) AS n ORDER BY n
"""


async def test_a_client_that_is_too_slow_is_closed_with_its_cursor(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_live_buffer": 512 * 1024})) as api:
        ana = await api.tenant()

        def narrow(info: Any) -> sockets.socket:
            made = sockets.socket(*info[:3])
            made.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
            return made

        connector = aiohttp.TCPConnector(socket_factory=narrow)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{api.port}", connector=connector) as session,
            connected(session, ana) as slow,
            connected(api.client, ana) as quick,
        ):
            await slow.next("started")
            await quick.next("started")
            before, count = hub.SLOW._value.get(), 0
            closed = open_sockets.CLOSED.labels("websocket", "slow")._value
            closed_before = closed.get()
            while hub.SLOW._value.get() == before:
                await api.pool.execute(MANY, ana.id, count)
                assert numbers(await quick.events(100)) == list(range(count, count + 100)), "another is not held up"
                count += 100
            assert await slow.to_the_end() == web_socket.TOO_SLOW
            assert closed.get() == closed_before + 1
            seen = [item["event"] for item in slow.items if item["type"] == "event"]
            assert len(seen) < count
            assert numbers(seen) == list(range(len(seen)))
        async with connected(api.client, ana, {"after": slow.last_id}) as again:
            assert numbers(await again.events(count - len(seen))) == list(range(len(seen), count))


async def test_before_a_stop_every_socket_is_asked_to_come_again(settings: Settings) -> None:
    async with aiohttp.ClientSession() as session:
        async with serving(settings) as api:
            ana = await api.tenant()
            contexts = [connected(session, ana, url=f"http://127.0.0.1:{api.port}/v1/live") for _ in range(20)]
            clients: list[Client] = [await one.__aenter__() for one in contexts]
            for client in clients:
                await client.next("started")
        asked = [await client.next() for client in clients]
        assert {item["type"] for item in asked} == {"reconnect"}
        assert all(0 <= item["withinMs"] <= settings.api_live_reconnect * 1000 for item in asked)
        assert len({item["withinMs"] for item in asked}) > 10, "not all at once"
        assert [await client.to_the_end() for client in clients] == [1012] * 20


async def test_the_stream_outlasts_the_databases_sessions(api: ApiStage, settings: Settings) -> None:
    ana = await api.tenant()
    async with connected(api.client, ana) as client:
        await client.next("started")
        for number in range(5):
            await end_sessions(settings)
            await happen(api.pool, ana, "message.sent", number=number)
        assert numbers(await client.events(5)) == list(range(5))
