"""/v1/live: whose key a client has, and what is answered where its first frame is wrong."""

from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from ingress.api import caller
from ingress.api.live import web_socket
from shared.settings import Settings
from tests.support.api import ApiStage, serving
from tests.support.live import Client, connected, happen, numbers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def problem_of(client: Client) -> tuple[int, dict[str, Any]]:
    """The code that the socket is closed with, and the problem that was said before."""
    item = await client.next("problem")
    return await client.to_the_end(), item["problem"]


async def test_a_browser_gives_its_key_in_the_first_frame(api: ApiStage) -> None:
    ana = await api.tenant("events:read")
    async with connected(api.client, None, {"key": ana.key, "subscribe": {}}) as client:
        assert (await client.next())["type"] == "started"
    async with connected(api.client, None, {"key": "plm_wrong"}) as client:
        assert (await problem_of(client))[0] == 4401
    async with connected(api.client, None) as client:
        assert (await problem_of(client))[0] == 4401
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(api.client, ana.with_key("plm_wrong")):
            pass
    assert refused.value.status == 401


async def test_a_key_without_the_scope_gets_nothing(api: ApiStage) -> None:
    ana = await api.tenant("contacts:read")
    async with connected(api.client, ana) as client:
        assert (await problem_of(client))[0] == 4403


async def test_a_revoked_key_ends_its_streams(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "REMEMBERED", 0.0)
    async with serving(settings.model_copy(update={"api_live_heartbeat": 0.1})) as api:
        ana = await api.tenant()
        other = await api.key(ana, "events:read")
        async with connected(api.client, other) as client:
            await client.next("heartbeat")
            await api.post(f"/v1/api-keys/{other.key_id}/revoke", ana)
            assert (await problem_of(client))[0] == 4401


async def test_an_operator_names_the_tenant(api: ApiStage) -> None:
    ana, operator = await api.tenant(), await api.operator()
    async with connected(api.client, operator, {"subscribe": {"tenantId": str(ana.id)}}) as client:
        await client.next("started")
        await happen(api.pool, ana, "message.sent", number=1)
        assert numbers(await client.events(1)) == [1]
    async with connected(api.client, operator, {"subscribe": {"tenantId": str(uuid4())}}) as client:
        assert (await problem_of(client))[0] == 4404
    async with connected(api.client, operator) as client:
        assert (await problem_of(client))[1]["errors"][0]["pointer"] == "#/tenantId"


@pytest.mark.parametrize(
    ("frame", "pointer"),
    [
        ("{", None),
        ("[]", None),
        ("[" * 5000, None),
        ('{"subscribe": 1}', None),
        ({"after": "x"}, "#/after"),
        ({"after": 1}, "#/after"),
        ({"after": "x" * 60_000}, "#/after"),
        ({"unknown": 1}, "#/unknown"),
        ({"subscribe": {"names": ["no_such_event"]}}, "#/names/0"),
        ({"subscribe": {"names": "message_held"}}, "#/names"),
        ({"subscribe": {"channelIds": ["x"]}}, "#/channelIds/0"),
        ({"subscribe": {"conversationIds": [str(uuid4())] * 101}}, "#/conversationIds"),
        ({"subscribe": {"unknown": "\0"}}, "#/unknown"),
    ],
)
async def test_what_is_wrong_with_a_frame_is_said(api: ApiStage, frame: Any, pointer: str | None) -> None:
    ana = await api.tenant()
    async with connected(api.client, ana, frame) as client:
        code, problem = await problem_of(client)
        assert code == 4400
        if pointer is not None:
            assert [one["pointer"] for one in problem["errors"]] == [pointer]


async def test_a_client_that_says_nothing_or_too_much_is_closed(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_socket, "FIRST_FRAME", 0.2)
    ana = await api.tenant()
    headers = {"Authorization": f"Bearer {ana.key}"}
    async with api.client.ws_connect("/v1/live", headers=headers) as socket:
        assert (await problem_of(Client(socket)))[0] == 4408
    async with connected(api.client, ana) as client:
        await client.next("started")
        await client.socket.send_str("{}")
        assert (await problem_of(client))[0] == 4400
    async with connected(api.client, ana, "x" * 70_000) as client:
        assert await client.to_the_end() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_one_tenant_has_at_most_half_of_the_streams(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_live_streams": 4})) as api:
        ana, bea = await api.tenant(), await api.tenant()
        async with connected(api.client, ana) as one, connected(api.client, ana) as two:
            await one.next("started")
            await two.next("started")
            async with connected(api.client, ana) as three:
                assert (await problem_of(three))[0] == 4503
            async with connected(api.client, bea) as theirs:
                await theirs.next("started")
        async with connected(api.client, ana) as client:
            await client.next("started")
