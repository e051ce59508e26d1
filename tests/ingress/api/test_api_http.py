"""What the API does with HTTP itself: faults, slow bodies, CORS, compression, health, and what it does not serve."""

import asyncio
import gzip
from typing import Any

import aiohttp
import orjson
import pytest

from shared.settings import Settings
from tests.support.api import ApiStage, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def api(one_api: ApiStage) -> ApiStage:
    """The module's API: each test has tenants of its own."""
    return one_api


async def raw(api: ApiStage, *pieces: bytes, pause: float = 0.0) -> tuple[bytes, bytes]:
    """Send bytes as they are; returns the head and the body of what comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("request_", "status", "name", "code"),
    [(b"nonsense\r\n\r\n", b"400", "parse-error", "PARSE_ERROR"),
     (b"GET /v1/contacts?x=" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
      b"431", "header-too-large", "PAYLOAD_TOO_LARGE"),
     (b"GET /v1/contacts HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
      b"431", "header-too-large", "PAYLOAD_TOO_LARGE")],
    ids=["no HTTP", "a long line", "a long header"],
)  # fmt: skip
async def test_what_is_no_request_gets_a_problem_that_both_transports_read(
    api: ApiStage, request_: bytes, status: bytes, name: str, code: str
) -> None:
    head, body = await raw(api, request_)
    assert head.startswith((b"HTTP/1.1 %b " % status, b"HTTP/1.0 %b " % status))
    assert b"application/problem+json" in head
    problem: dict[str, Any] = orjson.loads(body)
    assert problem["type"] == f"/docs#problem-{name}"
    assert problem["error"]["data"]["code"] == code


async def test_a_line_of_60_kb_is_read(api: ApiStage) -> None:
    ana = await api.tenant()
    answer = await api.get("/v1/contacts", ana, params={"cursor": "x" * 60_000})
    assert answer.pointers == ["#/cursor"]


async def test_a_slow_body_ends_and_one_that_is_too_large_is_not_read(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"api_body_timeout": 0.3, "api_body_limit": 2000})) as api:
        ana = await api.tenant()
        head = b"POST /v1/contacts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "
        head += ana.key.encode() + b"\r\nContent-Length: "
        answer, body = await raw(api, head + b"100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert orjson.loads(body)["type"] == "/docs#problem-timeout"
        answer, body = await raw(api, head + b"2001\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert orjson.loads(body)["type"] == "/docs#problem-too-large"


async def test_another_method_or_path_is_refused_with_what_there_is(api: ApiStage) -> None:
    ana = await api.tenant()
    wrong = await api.request("PUT", "/v1/contacts", ana)
    assert (wrong.status, wrong.problem, wrong.headers["Allow"]) == (405, "method-not-allowed", "GET, POST")
    assert wrong.status == 405
    for path in (
        "/v1",
        "/v1/",
        "/v1/pigeons",
        "/v1/contacts/a/b/c",
        "/",
        "/trpcx",
        "/v1/contacts//",
    ):
        assert (await api.get(path, ana)).problem == "unknown-path", path


async def test_it_serves_no_webhooks(api: ApiStage) -> None:
    answer = await api.post("/webhooks/twilio/6f1d6c52-6a6f-4d0c-9d53-50616c6f6d61", None, {})
    assert (answer.status, answer.problem) == (404, "unknown-path")
    assert (await api.get("/metrics", None)).status == 404


async def test_health_and_metrics_are_at_a_port_of_their_own(api: ApiStage) -> None:
    ana = await api.tenant()
    await api.get("/v1/contacts", ana)
    async with aiohttp.ClientSession() as client:
        for page in ("healthz", "readyz", "metrics"):
            async with client.get(f"{api.health}/{page}") as answer:
                assert answer.status == 200
                text = await answer.text()
        assert 'palomar_api_calls_total{outcome="ok",procedure="contacts.list"}' in text
        async with client.get(f"{api.health}/v1/contacts") as answer:
            assert answer.status == 404


async def test_a_long_answer_is_compressed_for_whoever_asks(api: ApiStage) -> None:
    ana = await api.tenant()
    for n in range(10):
        await api.post("/v1/contacts", ana, {"phoneNumber": f"+3460000000{n}"})
    headers = {"Authorization": f"Bearer {ana.key}", "Accept-Encoding": "gzip"}
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        async with client.get(f"http://127.0.0.1:{api.port}/v1/contacts", headers=headers) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert len(orjson.loads(gzip.decompress(await answer.read()))["contacts"]) == 10
        async with client.get(f"http://127.0.0.1:{api.port}/v1/contacts?limit=1", headers=headers) as answer:
            assert "Content-Encoding" not in answer.headers
            assert "Accept-Encoding" in answer.headers["Vary"]


async def test_only_pages_of_named_origins_may_read(settings: Settings) -> None:
    ours, other = "https://console.example.com", "https://other.example.com"
    async with serving(settings.model_copy(update={"api_cors_origins": (ours,)})) as api:
        ana = await api.tenant()
        asked: dict[str, Any] = {"Origin": ours, "Access_Control_Request_Method": "PATCH"}
        preflight = await api.request("OPTIONS", "/v1/contacts", None, **asked)
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == ours
        assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"]
        assert (await api.get("/v1/contacts", ana, Origin=ours)).headers["Access-Control-Allow-Origin"] == ours
        assert (await api.get("/v1/contacts", None, Origin=ours)).headers["Access-Control-Allow-Origin"] == ours
        refused = await api.get("/v1/contacts", ana, Origin=other)
        assert "Access-Control-Allow-Origin" not in refused.headers
        preflight = await api.request("OPTIONS", "/v1/contacts", None, **(asked | {"Origin": other}))
        assert "Access-Control-Allow-Origin" not in preflight.headers


async def test_head_answers_as_get_without_the_body(api: ApiStage) -> None:
    ana = await api.tenant()
    answer = await api.request("HEAD", "/v1/contacts", ana)
    assert (answer.status, answer.body) == (200, "")
