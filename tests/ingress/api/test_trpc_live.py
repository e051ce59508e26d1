"""wsLink and httpSubscriptionLink, by tRPC's own clients and frame by frame; what a deploy does to them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from shared.settings import Settings
from shared.store import contact_records
from tests.support import node, trpc_ticks
from tests.support.api import ApiStage, serving
from tests.support.api_inputs import stated
from tests.support.forwarder import forwarding
from tests.support.node import VERSIONS, Version

pytestmark = pytest.mark.asyncio(loop_scope="module")

versions = pytest.mark.parametrize("version", VERSIONS)
LINKS = [("v10", "wsLink"), ("v11", "wsLink"), ("v11", "httpSubscriptionLink")]
links = pytest.mark.parametrize(("version", "link"), LINKS)


@pytest.fixture(scope="module", autouse=True)
def _declared() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trpc_ticks.REGISTRY, trpc_ticks.declared)
        yield


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


@pytest.fixture(autouse=True)
def _ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trpc_ticks, "STARTED", asyncio.Event())
    monkeypatch.setattr(trpc_ticks, "ENDED", asyncio.Event())


def asked(version: Version, link: str, port: int, key: str) -> dict[str, Any]:
    """How a client of this version reaches the API with a key."""
    scheme = "ws" if link == "wsLink" else "http"
    url = f"{scheme}://127.0.0.1:{port}/trpc"
    if version == "v10":
        return {"link": link, "url": f"{url}?token={key}"}
    return {"link": link, "url": url, "options": {"connectionParams": {"authorization": f"Bearer {key}"}}}


@versions
async def test_queries_and_mutations_over_a_socket(api: ApiStage, version: Version) -> None:
    ana = await api.tenant()
    calls = [
        ["mutation", "contacts.create", {"phoneNumber": "+14155238886", "name": "Ana ñ"}],
        ["query", "contacts.list"],
        ["query", "pigeons.list"],
        ["query", "contacts.create", {"phoneNumber": "+34600000001"}],
        ["mutation", "contacts.create", {"phoneNumber": 1}],
        ["query", "ticks.plain"],
    ]
    reply = await node.run(version, **asked(version, "wsLink", api.port, ana.key), calls=calls)
    made, listed, *refused = reply.results
    assert made["data"]["contact"]["name"] == "Ana ñ"
    assert "nextCursor" in listed["data"]
    assert [one["error"]["data"]["code"] for one in refused] == [
        "NOT_FOUND", "METHOD_NOT_SUPPORTED", "BAD_REQUEST", "METHOD_NOT_SUPPORTED",
    ]  # fmt: skip
    assert refused[2]["error"]["data"]["problem"]["errors"][0]["pointer"] == "#/phoneNumber"


@versions
async def test_the_documents_statements_run_over_a_socket(api: ApiStage, version: Version) -> None:
    ana = await api.tenant()
    text = await stated(api, ana)
    script = f"{text}\nreturn contact;"
    reply = await node.run(version, **asked(version, "wsLink", api.port, ana.key), script=script)
    assert reply.value["contact"]["name"] == "John Doe"


@links
async def test_a_subscription_ends_by_itself(api: ApiStage, version: Version, link: str) -> None:
    ana = await api.tenant()
    reach = asked(version, link, api.port, ana.key)
    plain = await node.run(version, **reach, calls=[["subscription", "ticks.plain", {"count": 3}]])
    assert plain.results == [{"data": [{"number": 1}, {"number": 2}, {"number": 3}]}]
    tracked = await node.run(version, **reach, calls=[["subscription", "ticks.tracked", {"count": 2}]])
    assert tracked.results == [{"data": [{"id": "1", "data": {"number": 1}}, {"id": "2", "data": {"number": 2}}]}]


@links
async def test_a_subscription_is_closed_once_its_client_has_enough(api: ApiStage, version: Version, link: str) -> None:
    ana = await api.tenant()
    reach = asked(version, link, api.port, ana.key)
    call = ["subscription", "ticks.plain", {"count": 1_000_000}]
    reply = await node.run(version, **reach, calls=[call], take=2)
    assert reply.results == [{"data": [{"number": 1}, {"number": 2}]}]
    async with asyncio.timeout(10):
        await trpc_ticks.ENDED.wait()


@links
async def test_what_is_wrong_with_a_subscription_reaches_its_user(api: ApiStage, version: Version, link: str) -> None:
    reader, other = await api.tenant(), await api.tenant("contacts:read")
    for whose, given, code in (
        (reader, {"count": -1}, "BAD_REQUEST"),
        (reader, {"count": 1, "fail": True}, "CONFLICT"),
        (reader, {"tenantId": str(other.id)}, "NOT_FOUND"),
        (other, {}, "FORBIDDEN"),
    ):
        reach = asked(version, link, api.port, whose.key)
        reply = await node.run(version, **reach, calls=[["subscription", "ticks.plain", given]])
        data = reply.results[0]["error"]["data"]
        assert (data["code"], data["problem"]["status"]) == (code, data["httpStatus"])


async def test_frames_count_as_bodies_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()
    page: Any = contact_records.page

    async def slow(*given: Any, **named: Any) -> Any:
        await go_on.wait()
        return await page(*given, **named)

    monkeypatch.setattr(contact_records, "page", slow)
    async with serving(settings.model_copy(update={"api_bytes": 1024**2, "api_body_limit": 1024})) as api:
        ana, bob = await api.tenant(), await api.tenant()
        headers = {"Authorization": f"Bearer {ana.key}"}
        async with api.client.ws_connect("/trpc", headers=headers) as socket:
            for number in range(1, 5):  # a tenant has half of 1 MiB, and a quarter of that to spare
                call = {"id": number, "method": "query", "params": {"path": "contacts.list"}}
                await socket.send_str(orjson.dumps(call).decode().ljust(200_000))
            refused = await socket.receive_json(timeout=10)
            assert (refused["id"], refused["error"]["data"]["code"]) == (4, "SERVICE_UNAVAILABLE")
            assert refused["error"]["data"]["retryAfter"] > 0
            assert (await api.post("/v1/contacts", bob, {"phoneNumber": "+14155238886"})).status == 201
            go_on.set()
            answered = [await socket.receive_json(timeout=10) for _ in range(3)]
            assert all("result" in one for one in answered)
            await socket.send_json({"id": 5, "method": "query", "params": {"path": "contacts.list"}})
            assert "result" in await socket.receive_json(timeout=10)


async def test_an_event_stream_without_a_key_says_so(api: ApiStage) -> None:
    url = f"http://127.0.0.1:{api.port}/trpc"
    reply = await node.run("v11", link="httpSubscriptionLink", url=url, calls=[["subscription", "ticks.plain"]])
    assert reply.results[0]["error"]["data"]["code"] == "UNAUTHORIZED"


@links
async def test_a_deploy_loses_and_doubles_no_item(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, version: Version, link: str
) -> None:
    monkeypatch.setattr("ingress.api.trpc.subscriptions.LEAVING", 0.2)
    monkeypatch.setattr("ingress.api.trpc.sockets.GRACE", 1.0)
    monkeypatch.setattr(trpc_ticks, "PAUSE", 0.01)
    call = ["subscription", "ticks.tracked", {"count": 1_000_000}]
    async with serving(settings) as after:
        ana = await after.tenant()
        async with forwarding(after.port) as forwarder:
            async with serving(settings) as before:
                forwarder.target = before.port
                reach = asked(version, link, forwarder.port, ana.key)
                client = asyncio.create_task(node.run(version, **reach, calls=[call], take=300))
                async with asyncio.timeout(30):
                    await trpc_ticks.STARTED.wait()
                await asyncio.sleep(0.3)  # some items later
                forwarder.target = after.port
            reply = await client
    numbers = [one["data"]["number"] for one in reply.results[0]["data"]]
    if version == "v11":
        assert numbers == list(range(1, 301))
    else:  # it does not say what it has seen last, and begins anew
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))


@asynccontextmanager
async def socket(api: ApiStage, query: str = "") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with api.client.ws_connect(f"/trpc{query}") as connected:
        yield connected


async def said(connected: aiohttp.ClientWebSocketResponse) -> Any:
    return orjson.loads(await connected.receive_str(timeout=10))


async def test_a_socket_without_a_valid_key_is_closed(api: ApiStage) -> None:
    ana = await api.tenant()
    for query, first in (
        ("", None),
        ("?token=plm_wrong", None),
        ("?connectionParams=1", '{"method":"connectionParams","data":null}'),
        ("?connectionParams=1", '{"method":"connectionParams","data":{"token":1}}'),
        ("?connectionParams=1", "{"),
        ("?connectionParams=1", f'{{"id":1,"method":"query","params":{{"path":"{ana.key}"}}}}'),
    ):
        async with socket(api, query) as connected:
            if first is not None:
                await connected.send_str(first)
            answer = await said(connected)
            assert answer["id"] is None
            assert answer["error"]["data"]["problem"]
            assert (await connected.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE


async def test_frames(api: ApiStage) -> None:
    ana = await api.tenant()
    async with socket(api, f"?token={ana.key}") as connected:
        await connected.send_str("PING")
        assert await connected.receive_str(timeout=10) == "PONG"
        two = [{"id": n, "method": "query", "params": {"path": "contacts.list"}} for n in (1, 2)]
        await connected.send_str(orjson.dumps(two).decode())
        answers = [await said(connected) for _ in two]
        assert sorted(one["id"] for one in answers) == [1, 2]
        assert answers[0]["result"] == {"type": "data", "data": {"contacts": [], "nextCursor": None}}
        for frame, id_ in (("{", None), ("7", None), ('{"id":7}', 7), ('{"id":"a","method":"query"}', "a")):
            await connected.send_str(frame)
            answer = await said(connected)
            assert (answer["id"], answer["error"]["code"] < 0) == (id_, True)


async def test_a_subscription_is_stopped_before_the_next_frame_is_answered(api: ApiStage) -> None:
    ana = await api.tenant()
    params = {"path": "ticks.plain", "input": {"count": 1_000_000}}
    start = orjson.dumps({"id": 1, "method": "subscription", "params": params}).decode()
    async with socket(api, f"?token={ana.key}") as connected:
        await connected.send_str(start)
        assert (await said(connected))["result"] == {"type": "started"}
        assert (await said(connected))["result"] == {"type": "data", "data": {"number": 1}}
        await connected.send_str(start)
        while "error" not in (answer := await said(connected)):
            pass
        assert answer["error"]["data"]["code"] == "CONFLICT"
        await connected.send_str('{"id":1,"method":"subscription.stop"}')
        await connected.send_str("PING")
        while (answer := await said(connected))["result"]["type"] == "data":
            pass
        assert answer == {"id": 1, "result": {"type": "stopped"}}
        assert await connected.receive_str(timeout=10) == "PONG"
        await connected.send_str(start)
        assert (await said(connected))["result"] == {"type": "started"}


async def test_a_revoked_key_ends_what_streams(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.api.trpc.subscriptions.PAUSE", 0.2)
    monkeypatch.setattr("ingress.api.caller.REMEMBERED", 0.1)
    monkeypatch.setattr(trpc_ticks, "PAUSE", 60.0)
    ana = await api.tenant()
    start = orjson.dumps({"id": 1, "method": "subscription", "params": {"path": "ticks.plain"}}).decode()
    async with socket(api, f"?token={ana.key}") as connected:
        await connected.send_str(start)
        assert [await said(connected) for _ in range(2)][1]["result"]["data"] == {"number": 1}
        operator = await api.operator()
        given = {"id": str(ana.key_id), "tenantId": str(ana.id)}
        assert (await api.post("/trpc/apiKeys.revoke", operator, given)).status == 200
        assert (await said(connected))["error"]["data"]["code"] == "UNAUTHORIZED"
        query = {"id": 2, "method": "query", "params": {"path": "contacts.list"}}
        await connected.send_str(orjson.dumps(query).decode())
        assert (await said(connected))["error"]["data"]["code"] == "UNAUTHORIZED"


async def test_a_revoked_key_ends_what_never_pauses(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.api.trpc.subscriptions.PAUSE", 0.2)
    monkeypatch.setattr("ingress.api.caller.REMEMBERED", 0.1)
    ana = await api.tenant()
    given = {"id": str(ana.key_id), "tenantId": str(ana.id)}
    endless = asyncio.create_task(api.get("/trpc/ticks.plain?input=%7B%22count%22:1000000%7D", ana))
    await trpc_ticks.STARTED.wait()
    assert (await api.post("/trpc/apiKeys.revoke", await api.operator(), given)).status == 200
    assert "event: serialized-error" in (await endless).body


async def test_a_tenants_connections_leave_room_for_others(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.api.trpc.connections.MOST_OF_ONE", 1)
    ana, ben = await api.tenant(), await api.tenant()
    async with socket(api, f"?token={ana.key}") as first, socket(api, f"?token={ben.key}") as other:
        for connected in (first, other):
            await connected.send_str("PING")
            assert await connected.receive_str(timeout=10) == "PONG"
        async with socket(api, f"?token={ana.key}") as second:
            assert (await said(second))["error"]["data"]["code"] == "TOO_MANY_REQUESTS"
        refused = await api.get("/trpc/ticks.plain", ana)
        assert "TOO_MANY_REQUESTS" in refused.body
    async with socket(api, f"?token={ben.key}") as again:
        await again.send_str("PING")
        assert await again.receive_str(timeout=10) == "PONG"


async def test_a_handshake_that_is_none_has_the_shape_too(api: ApiStage) -> None:
    answer = await api.get("/trpc", None, Upgrade="websocket", Connection="Upgrade")
    assert (answer.status, answer.body["error"]["data"]["code"]) == (400, "BAD_REQUEST")


async def test_an_event_stream_byte_by_byte(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "https://console.example.com"
    async with serving(settings.model_copy(update={"api_cors_origins": (ours,)})) as api:
        ana = await api.tenant()
        headers = {"Last_Event_ID": "1", "Origin": ours}
        answer = await api.get("/trpc/ticks.tracked?input=%7B%22count%22:2%7D", ana, **headers)
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-cache, no-transform"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["Access-Control-Allow-Origin"] == ours
        connected, item, end = answer.body.strip().split("\n\n")
        assert connected.startswith('event: connected\ndata: {"reconnectAfterInactivityMs":')
        assert item == 'data: {"number":2}\nid: 2'
        assert end == "event: return\ndata:"
        monkeypatch.setattr("ingress.api.trpc.subscriptions.PAUSE", 0.05)
        monkeypatch.setattr(trpc_ticks, "PAUSE", 0.3)
        quiet = await api.get("/trpc/ticks.plain?input=%7B%22count%22:1%7D", ana)
        assert "event: ping\ndata: \n\n" in quiet.body
        batch = await api.get("/trpc/ticks.plain?batch=1", ana)
        assert batch.status == 405
