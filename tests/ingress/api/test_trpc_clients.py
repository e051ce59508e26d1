"""/trpc by tRPC's own clients, versions 10 and 11, run by Node: each link, and the fifth document's statements."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from ingress.api.declaration import registry
from shared.settings import Settings
from tests.support import node
from tests.support.api import ApiStage, Tenant, serving
from tests.support.api_inputs import stated
from tests.support.node import VERSIONS, Reply, Version

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTTP_LINKS = ("httpLink", "httpBatchLink", "httpBatchStreamLink")
versions = pytest.mark.parametrize("version", VERSIONS)
links = pytest.mark.parametrize("link", HTTP_LINKS)


async def calls(
    api: ApiStage, whose: Tenant | None, version: Version, link: str, *each: Sequence[Any], **rest: Any
) -> Reply:
    """Make these calls at once. Each is a kind, a procedure and perhaps an input."""
    headers = {} if whose is None else {"Authorization": f"Bearer {whose.key}"}
    url = f"http://127.0.0.1:{api.port}/trpc"
    return await node.run(version, url=url, link=link, headers=headers | rest.pop("headers", {}), calls=each, **rest)


def code(result: dict[str, Any]) -> str:
    """tRPC's code of a failure, as its clients' users read it."""
    assert result["error"]["name"] == "TRPCClientError"
    data = result["error"]["data"]
    assert data["problem"]["status"] == data["httpStatus"]
    return str(data["code"])


@versions
@links
async def test_queries_and_mutations(one_api: ApiStage, version: Version, link: str) -> None:
    ana = await one_api.tenant()
    number = {"phoneNumber": "+14155238886", "name": "Ana ñandú 🐧, a = b & c"}
    made = await calls(one_api, ana, version, link, ["mutation", "contacts.create", number])
    contact = made.results[0]["data"]["contact"]
    assert contact["name"] == number["name"]
    reply = await calls(
        one_api, ana, version, link,
        ["query", "contacts.list"], ["query", "contacts.get", {"id": contact["id"]}],
        ["query", "contacts.get", {"id": str(uuid4())}], ["query", "pigeons.list"],
        ["mutation", "contacts.update", {"id": contact["id"], "name": None}],
        ["mutation", "contacts.create", {"phoneNumber": "no number"}],
    )  # fmt: skip
    listed, got, missing, unknown, updated, refused = reply.results
    assert listed["data"]["contacts"][0]["id"] == contact["id"]
    assert got["data"]["contact"]["id"] == contact["id"]
    assert code(missing) == "NOT_FOUND"
    assert code(unknown) == "NOT_FOUND"
    assert updated["data"]["contact"]["name"] is None
    assert code(refused) == "BAD_REQUEST"
    assert refused["error"]["data"]["problem"]["errors"][0]["pointer"] == "#/phoneNumber"
    statuses = sorted(one["status"] for one in reply.responses)
    assert (
        statuses
        == {
            "httpLink": [200, 200, 200, 400, 404, 404],
            "httpBatchLink": [207, 207],
            "httpBatchStreamLink": [200, 200],
        }[link]
    )


@versions
@links
async def test_a_refusal_of_the_whole_request_reaches_every_call(
    one_api: ApiStage, version: Version, link: str
) -> None:
    two = (["query", "contacts.list"], ["query", "contacts.get", {"id": str(uuid4())}])
    reply = await calls(one_api, None, version, link, *two)
    assert [code(one) for one in reply.results] == ["UNAUTHORIZED"] * 2
    assert {one["status"] for one in reply.responses} == {401}
    ana = await one_api.tenant()
    large = {"phoneNumber": "x" * (one_api.settings.api_body_limit + 1)}
    reply = await calls(one_api, ana, version, link, *[["mutation", "contacts.create", large]] * 2)
    assert [code(one) for one in reply.results] == ["PAYLOAD_TOO_LARGE"] * 2
    reply = await calls(one_api, await one_api.tenant("apiKeys:read"), version, link, *two)
    assert [code(one) for one in reply.results] == ["FORBIDDEN"] * 2


@versions
async def test_a_stream_answers_as_each_is_ready(
    one_api: ApiStage, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await one_api.tenant()
    listed = asyncio.Event()
    page = registry()["contacts.list"].handler.__globals__["records"].page

    async def slowly(*given: Any, **rest: Any) -> Any:
        await listed.wait()
        return await page(*given, **rest)

    async def later(*given: Any, **rest: Any) -> Any:
        asyncio.get_running_loop().call_later(0.3, listed.set)
        return None

    monkeypatch.setattr("shared.store.contact_records.page", slowly)
    monkeypatch.setattr("shared.store.contact_records.get", later)
    two = (["query", "contacts.list"], ["query", "contacts.get", {"id": str(uuid4())}])
    reply = await calls(one_api, ana, version, "httpBatchStreamLink", *two)
    assert reply.order == [1, 0]
    assert reply.results[0]["data"]["contacts"] == []
    assert code(reply.results[1]) == "NOT_FOUND"


@pytest.mark.parametrize("link", HTTP_LINKS)
async def test_queries_may_come_by_post(one_api: ApiStage, link: str) -> None:
    ana = await one_api.tenant()
    two = (["query", "contacts.list"], ["query", "contacts.list", {"limit": 1}])
    reply = await calls(one_api, ana, "v11", link, *two, options={"methodOverride": "POST"})
    assert [one["data"]["contacts"] for one in reply.results] == [[], []]


@versions
@links
async def test_a_repeated_request_has_one_effect(one_api: ApiStage, version: Version, link: str) -> None:
    ana = await one_api.tenant()
    two = [["mutation", "contacts.create", {"phoneNumber": f"+3460000000{n}"}] for n in range(2)]
    if link == "httpLink":
        two.pop()  # each of its calls is a request, with a key of its own
    key = {"Idempotency-Key": "order-1"}
    first = await calls(one_api, ana, version, link, *two, headers=key)
    again = await calls(one_api, ana, version, link, *two, headers=key)
    assert again.results == first.results
    assert all("data" in one for one in again.results)
    if link != "httpBatchStreamLink":
        assert again.responses[0]["headers"]["idempotent-replayed"] == "true"


@versions
@links
async def test_the_documents_statements_run_as_they_stand(one_api: ApiStage, version: Version, link: str) -> None:
    ana = await one_api.tenant()
    text = await stated(one_api, ana)
    names = re.findall(r"const (\w+)", text)
    reply = await calls(one_api, ana, version, link, script=f"{text}\nreturn {{ {', '.join(names)} }};")
    assert reply.value["contact"]["contact"]["name"] == "John Doe"


@versions
@links
async def test_a_client_with_a_transformer_reads_what_to_change(one_api: ApiStage, version: Version, link: str) -> None:
    ana = await one_api.tenant()
    two = [["mutation", "contacts.create", {"phoneNumber": f"+3460000000{n}"}] for n in range(2)]
    reply = await calls(one_api, ana, version, link, *two, wrapped=True)
    for one in reply.results:
        assert code(one) == "BAD_REQUEST"
        assert "Leave out the client's option `transformer`" in one["error"]["message"]
        assert one["error"]["data"]["problem"]["errors"][0]["pointer"] == "#"
    assert (await one_api.get("/v1/contacts", ana)).body["contacts"] == []


async def test_a_limit_on_the_way_is_read_too(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_rate_limit": 1})) as api:
        ana = await api.tenant()
        for version in VERSIONS:
            for link in HTTP_LINKS:
                reply = await calls(api, ana, version, link, *[["query", "contacts.list"]] * 2)
                refused = reply.results[1]
                assert code(refused) == "TOO_MANY_REQUESTS"
                assert refused["error"]["data"]["retryAfter"] > 0
