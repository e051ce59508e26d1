"""/trpc over HTTP, byte by byte: what tRPC's clients read, and what they never send."""

import asyncio
from typing import Any, cast
from urllib.parse import quote

import orjson
import pytest

from ingress.api.caller import Caller
from ingress.api.execute import Executor
from ingress.api.trpc import transport
from ingress.api.trpc.calls import AT_ONCE, Asked, CallRunner, Outcome
from ingress.api.trpc.requests import MOST_CALLS
from shared.settings import Settings
from tests.support.api import Answer, ApiStage, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBER = "+14155238886"


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


def input_of(given: Any) -> str:
    return "input=" + quote(orjson.dumps(given), safe="")


def assert_error(answer: Answer, status: int, code: str, problem: str) -> None:
    """That it is one error for the whole request, as every client of tRPC reads it."""
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("application/json")
    shape = answer.body["error"]
    assert isinstance(shape["code"], int)
    assert isinstance(shape["message"], str)
    assert (shape["data"]["code"], shape["data"]["httpStatus"]) == (code, status)
    assert shape["data"]["problem"]["type"] == f"/docs#problem-{problem}"


async def test_a_query_comes_by_get_and_a_mutation_by_post(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await api.post("/trpc/contacts.create", ana, {"phoneNumber": NUMBER, "name": "Ana"})
    assert made.status == 200
    contact = made.body["result"]["data"]["contact"]
    got = await api.get(f"/trpc/contacts.get?{input_of({'id': contact['id']})}", ana)
    assert got.body == made.body
    assert got.headers["Vary"] == "trpc-accept, accept"
    assert got.headers["ETag"]
    assert got.headers["RateLimit"]
    by_post = await api.post("/trpc/contacts.get", ana, {"id": contact["id"]})  # methodOverride
    assert by_post.body == got.body


async def test_an_input_may_be_undefined(api: ApiStage) -> None:
    ana = await api.tenant()
    none: dict[str, Any] = {"result": {"data": {"contacts": [], "nextCursor": None}}}
    assert (await api.get("/trpc/contacts.list", ana)).body == none
    assert (await api.request("POST", "/trpc/contacts.list", ana, data=b"")).body == none
    assert (await api.get("/trpc/contacts.list,contacts.list?batch=1", ana)).body == [none, none]
    assert (await api.get("/trpc/contacts.list%2Ccontacts.list?batch=1&input={}", ana)).body == [none, none]
    assert (await api.get("/trpc/contacts.list?batch=1", ana)).body == [none]


async def test_a_mutation_never_comes_by_get(api: ApiStage) -> None:
    ana = await api.tenant()
    answer = await api.get(f"/trpc/contacts.create?{input_of({'phoneNumber': NUMBER})}", ana)
    assert_error(answer, 405, "METHOD_NOT_SUPPORTED", "method-not-allowed")
    assert answer.headers["Allow"] == "POST"
    assert answer.body["error"]["data"]["path"] == "contacts.create"
    assert_error(
        await api.request("PUT", "/trpc/contacts.list", ana), 405, "METHOD_NOT_SUPPORTED", "method-not-allowed"
    )
    assert (await api.request("HEAD", "/trpc/contacts.list", None)).status == 204


async def test_calls_of_a_batch_succeed_and_fail_each_by_itself(api: ApiStage) -> None:
    ana = await api.tenant()
    given = {"0": {"phoneNumber": NUMBER}, "1": {"phoneNumber": "no number"}, "2": {}}
    answer = await api.post("/trpc/contacts.create,contacts.create,pigeons.list?batch=1", ana, given)
    assert answer.status == 207
    first, second, third = answer.body
    assert first["result"]["data"]["contact"]["phoneNumber"] == NUMBER
    assert second["error"]["data"]["problem"]["errors"][0]["pointer"] == "#/phoneNumber"
    assert (third["error"]["data"]["code"], third["error"]["data"]["path"]) == ("NOT_FOUND", "pigeons.list")
    same = await api.get("/trpc/pigeons.list,pigeons.get?batch=1", ana)
    assert same.status == 404


@pytest.mark.parametrize(
    ("path", "status", "code", "problem"),
    [
        ("/trpc", 404, "NOT_FOUND", "unknown-path"),
        ("/trpc/", 404, "NOT_FOUND", "unknown-path"),
        ("/trpc/pigeons.list", 404, "NOT_FOUND", "unknown-path"),
        ("/trpc/contacts.get?input={", 400, "PARSE_ERROR", "parse-error"),
        ("/trpc/contacts.list?batch=1&input=[]", 400, "BAD_REQUEST", "invalid-input"),
        ("/trpc/contacts.list?batch=1&input=%22a%22", 400, "BAD_REQUEST", "invalid-input"),
        ("/trpc/contacts.list?input=%FF", 400, "BAD_REQUEST", "invalid-input"),
        ("/trpc/contacts.list?" + "a=1&" * 101, 400, "BAD_REQUEST", "invalid-input"),
        ("/trpc/" + ",".join(["contacts.list"] * (MOST_CALLS + 1)) + "?batch=1", 400, "BAD_REQUEST", "invalid-input"),
        ("/trpc/contacts.get?input=[]", 400, "BAD_REQUEST", "invalid-input"),
        ("/trpc/contacts.get?input=%22%5Cu0000%22", 400, "BAD_REQUEST", "invalid-input"),
    ],
)
async def test_what_cant_be_read_is_refused(api: ApiStage, path: str, status: int, code: str, problem: str) -> None:
    assert_error(await api.get(path, await api.tenant()), status, code, problem)


async def test_a_bad_escape_is_refused(api: ApiStage) -> None:
    for path in (b"/trpc/contacts.list%zz", b"/trpc/%FF", b"/trpc/a%"):
        status, shape = await raw(api, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (status, shape["data"]["code"]) == (400, "BAD_REQUEST"), path


async def test_refusals_before_a_call_have_the_shape_too(settings: Settings) -> None:
    small = settings.model_copy(update={"api_body_limit": 2000, "api_body_timeout": 0.3, "api_rate_limit": 6})
    async with serving(small) as api:
        reader = await api.tenant("contacts:read")
        create = "/trpc/contacts.create"
        assert_error(await api.get("/trpc/contacts.list", None), 401, "UNAUTHORIZED", "unauthenticated")
        assert_error(await api.post(create, reader, {"phoneNumber": NUMBER}), 403, "FORBIDDEN", "forbidden")
        assert_error(await api.request("POST", create, reader, data=b"{"), 400, "PARSE_ERROR", "parse-error")
        too_large = await api.request("POST", create, reader, data=b"x" * 2001)
        assert_error(too_large, 413, "PAYLOAD_TOO_LARGE", "too-large")
        plain = await api.request("POST", create, reader, data=b"{}", Content_Type="text/plain")
        assert_error(plain, 415, "UNSUPPORTED_MEDIA_TYPE", "unsupported-media-type")
        head = b"POST /trpc/contacts.create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += b"Content-Length: 100\r\nAuthorization: Bearer " + reader.key.encode()
        status, shape = await raw(api, head + b"\r\n\r\n{")
        assert (status, shape["data"]["code"]) == (408, "TIMEOUT")
        answers = [await api.get("/trpc/contacts.list", reader) for _ in range(4)]
        assert_error(answers[-1], 429, "TOO_MANY_REQUESTS", "too-many-requests")
        assert int(answers[-1].headers["Retry-After"]) == answers[-1].body["error"]["data"]["retryAfter"]
        batch = await api.get("/trpc/contacts.list,contacts.list?batch=1", reader)
        assert (batch.status, int(batch.headers["Retry-After"]) > 0) == (429, True)


async def test_a_parsers_fault_has_the_shape_too(api: ApiStage) -> None:
    status, shape = await raw(api, b"nonsense\r\n\r\n")
    assert (status, shape["data"]["code"]) == (400, "PARSE_ERROR")
    assert shape["data"]["problem"]["type"] == "/docs#problem-parse-error"
    for line in (b"GET /trpc/" + b"a" * 70_000, b"GET /trpc/contacts.list HTTP/1.1\r\nX: " + b"a" * 70_000):
        status, shape = await raw(api, line + b" HTTP/1.1\r\n\r\n")
        assert (status, shape["data"]["code"], shape["data"]["httpStatus"]) == (431, "PAYLOAD_TOO_LARGE", 431)
        assert shape["data"]["problem"]["type"] == "/docs#problem-header-too-large"


async def test_answers_to_one_batch_hold_a_bounded_number_of_bytes(
    api: ApiStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MOST_ANSWERED", 1)
    ana = await api.tenant()
    batch = "/trpc/" + ",".join(["contacts.list"] * (AT_ONCE + 2)) + "?batch=1"
    answer = await api.get(batch, ana)
    assert answer.status == 207
    assert all("result" in one for one in answer.body[:AT_ONCE])
    for refused in answer.body[AT_ONCE:]:
        assert (refused["error"]["data"]["httpStatus"], refused["error"]["data"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert "fewer or smaller calls" in refused["error"]["message"]
    headers = {"Authorization": f"Bearer {ana.key}", "trpc-accept": "application/jsonl"}
    async with api.client.get(batch, headers=headers) as streamed:
        assert (await streamed.text()).count('"result"') == AT_ONCE + 2, "each is sent as it is there"


async def test_a_call_of_a_batch_waits_until_there_is_room_for_its_answer() -> None:
    class Counting(CallRunner):
        begun = 0

        async def run(self, caller: Caller, asked: Asked) -> Outcome:
            self.begun += 1
            return Outcome(200, b"{}")

    runner = Counting(cast(Executor, None), {})
    outcomes = runner.each(cast(Caller, None), [Asked("contacts.list", None)] * 20)
    await anext(outcomes)
    await asyncio.sleep(0.05)
    assert runner.begun == AT_ONCE
    assert len([one async for one in outcomes]) == 19


async def test_an_outage_has_the_shape_too(api: ApiStage, monkeypatch: pytest.MonkeyPatch) -> None:
    ana = await api.tenant()

    async def away(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("the database is away")

    monkeypatch.setattr("shared.store.contact_records.page", away)
    assert_error(await api.get("/trpc/contacts.list", ana), 503, "SERVICE_UNAVAILABLE", "unavailable")

    async def wrong(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("shared.store.contact_records.page", wrong)
    assert_error(await api.get("/trpc/contacts.list", ana), 500, "INTERNAL_SERVER_ERROR", "internal")


async def test_each_call_of_a_batch_has_its_own_idempotency_key(api: ApiStage) -> None:
    ana = await api.tenant()
    path = "/trpc/contacts.create,contacts.create?batch=1"
    given = {"0": {"phoneNumber": NUMBER}, "1": {"phoneNumber": "+34600000001"}}
    first = await api.post(path, ana, given, Idempotency_Key="order 1")
    assert first.status == 200
    again = await api.post(path, ana, given, Idempotency_Key="order 1")
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    swapped = await api.post(path, ana, {"0": given["1"], "1": given["0"]}, Idempotency_Key="order 1")
    assert swapped.status == 422
    assert swapped.body[0]["error"]["data"]["problem"]["type"] == "/docs#problem-idempotency-mismatch"
    assert await api.rows("SELECT count(*) AS made FROM contacts WHERE tenant_id = $1", ana.id) == [{"made": 2}]
    for wrong in ("", "é", "x" * 256):
        refused = await api.post(path, ana, given, Idempotency_Key=wrong)
        assert_error(refused, 400, "BAD_REQUEST", "invalid-input")


async def test_a_lone_call_takes_the_headers_of_rest(api: ApiStage) -> None:
    ana = await api.tenant()
    made = await api.post("/trpc/contacts.create", ana, {"phoneNumber": NUMBER}, Idempotency_Key="order 1")
    again = await api.post("/trpc/contacts.create", ana, {"phoneNumber": NUMBER}, Idempotency_Key="order 1")
    assert (again.body, again.headers["Idempotent-Replayed"]) == (made.body, "true")
    change = {"id": made.body["result"]["data"]["contact"]["id"], "name": "Ana"}
    stale = await api.post("/trpc/contacts.update", ana, change, If_Match='"0"')
    assert_error(stale, 412, "PRECONDITION_FAILED", "version-mismatch")
    assert (await api.post("/trpc/contacts.update", ana, change, If_Match=made.headers["ETag"])).status == 200


async def test_pages_of_named_origins_may_read_streams_too(settings: Settings) -> None:
    ours = "https://console.example.com"
    async with serving(settings.model_copy(update={"api_cors_origins": (ours,)})) as api:
        ana = await api.tenant()
        key = {"Authorization": f"Bearer {ana.key}", "Origin": ours}
        for form in ({}, {"trpc-accept": "application/jsonl"}, {"trpc-batch-mode": "stream"}):
            async with api.client.get("/trpc/contacts.list?batch=1", headers=key | form) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == ours
                assert answer.headers["RateLimit"]
                assert b'{"result":{"data":{"nextCursor":null,"contacts":[]}}}' in await answer.read()
        preflight = await api.request(
            "OPTIONS", "/trpc/contacts.list", None, Origin=ours, Access_Control_Request_Method="POST"
        )
        assert "trpc-accept" in preflight.headers["Access-Control-Allow-Headers"]


async def raw(api: ApiStage, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes as they are; returns the status and the error of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(body)["error"]
