"""Whatever is wrong with a request gets a clear answer and leaves a trace; nothing of it is queued or logged."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from io import BytesIO
from uuid import UUID

import aio_pika
import aiohttp
import psutil
import pytest
from structlog.testing import capture_logs

from shared.settings import Settings
from tests.support.ingress import PUBLIC_URL, Hook, add_endpoint, form, ingress, ingress_process, metric, post

FIELDS = {"MessageSid": "SM1", "Body": "private words"}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def logged() -> Iterator[Sequence[Mapping[str, object]]]:
    with capture_logs() as lines:
        yield lines


def half_a_request(hook: Hook) -> bytes:
    lines = f"POST {hook.path()} HTTP/1.1", "Host: x", f"Content-Type: {FORM}", "Content-Length: 100", "", "Body="
    return "\r\n".join(lines).encode()


async def queued(amqp_url: str) -> int:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        counts = [
            (await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0
            for name in ("persist", "persist.receipts")
        ]
        return sum(counts)


async def test_each_refusal_is_answered_counted_and_logged_without_content(
    settings: Settings, amqp_url: str, logged: Sequence[Mapping[str, object]]
) -> None:
    hook = await add_endpoint(settings)
    stranger = Hook(UUID(int=7), None)
    signed = hook.signed(FIELDS)
    json_body = json.dumps(FIELDS).encode()
    cases: list[tuple[str, int, str, dict[str, str], bytes, str]] = [
        # path, status, reason, headers, body, what the answer names
        (stranger.path(), 404, "unknown_endpoint", stranger.signed(FIELDS), form(FIELDS), "palomar channels list"),
        ("/webhooks/twilio/no-uuid", 404, "unknown_endpoint", signed, form(FIELDS), "palomar channels list"),
        ("/webhooks/nobody/x", 404, "unknown_path", signed, form(FIELDS), "palomar channels list"),
        (hook.path("/other"), 404, "unknown_path", signed, form(FIELDS), "palomar channels list"),
        (hook.path(), 403, "signature", {"Content-Type": FORM}, form(FIELDS), PUBLIC_URL),
        (hook.path(), 403, "signature", signed, form({**FIELDS, "Body": "other"}), PUBLIC_URL),
        (hook.path("/status"), 403, "signature", signed, form(FIELDS), PUBLIC_URL),
        (hook.path("?x=1"), 403, "signature", signed, form(FIELDS), PUBLIC_URL),
        (hook.path(), 403, "signature", {**signed, "X-Twilio-Signature": "ünï"}, form(FIELDS), PUBLIC_URL),
        (hook.path(), 403, "signature", Hook(hook.id, None, "f" * 32).signed(FIELDS), form(FIELDS), "auth token"),
        (hook.path("?bodySHA256=00"), 403, "signature", {"Content-Type": "application/json"}, json_body, "signature"),
        (hook.path(), 415, "content_type", {**signed, "Content-Type": "application/json"}, json_body, "bodySHA256"),
        (hook.path(), 415, "content_type", {**signed, "Content-Type": "text/plain"}, form(FIELDS), "urlencoded"),
        (hook.path(), 415, "content_type", {**signed, "Content-Type": ""}, form(FIELDS), "urlencoded"),
        (hook.path(), 413, "too_large", signed, b"x" * (1024 * 1024 + 1), "1048576 bytes"),
        (
            hook.path(),
            415,
            "compressed",
            {**signed, "Content-Encoding": "gzip"},
            gzip.compress(form(FIELDS)),
            "without",
        ),
    ]
    async with ingress(settings) as client:
        for path, status, reason, headers, body, named in cases:
            counter = f'palomar_webhooks_refused_total{{reason="{reason}"}}'
            before = await metric(client, counter)
            async with client.post(path, data=BytesIO(body), headers=headers) as answer:
                text = await answer.text()
                assert (answer.status, reason) == (status, reason)
            assert named in text, reason
            assert await metric(client, counter) == before + 1, reason
            assert logged[-1]["reason"] == reason
        assert await post(client, hook, FIELDS) == 200
    assert await queued(amqp_url) == 1
    assert not re.search(r"private|words|SM1|other|0123456789abcdef|X-Twilio", json.dumps(logged, default=str))
    assert str(hook.id) in json.dumps(logged, default=str)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method_says_which_one_to_choose(settings: Settings, method: str) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client, client.request(method, hook.path()) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
        assert "HTTP POST" in await answer.text()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /webhooks HTTP/1.1", 404),
        ("POST /webhooks/ HTTP/1.1", 404),
        ("POST /webhooks/twilio HTTP/1.1", 404),
        ("POST /webhooks/twilio/ HTTP/1.1", 404),
        ("POST //webhooks/twilio/x HTTP/1.1", 404),
        ("POST /webhooks" + "/twilio" * 400 + " HTTP/1.1", 404),
        ("GET / HTTP/1.1", 404),
        ("GET /healthz/more HTTP/1.1", 404),
        ("GET /healthz HTTP/1.1", 404),  # our own matters are at another port
        ("GET /readyz HTTP/1.1", 404),
        ("GET /metrics HTTP/1.1", 404),
        ("HEAD /metrics HTTP/1.1", 404),
        ("POST /healthz HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("GET http://evil.example/healthz HTTP/1.1", 404),
    ],
)
async def test_an_unknown_path_gets_a_404(settings: Settings, request_line: str, status: int) -> None:
    async with ingress(settings) as client:
        reader, writer = await _connect(client)
        writer.write(f"{request_line}\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(f"HTTP/1.1 {status} ".encode())
        writer.close()


async def test_a_body_that_grows_past_the_limit_without_saying_so(settings: Settings) -> None:
    hook = await add_endpoint(settings)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    async with (
        ingress(settings) as client,
        client.post(hook.path(), data=endless(), headers=hook.signed(FIELDS)) as answer,
    ):
        assert answer.status == 413


async def test_a_body_that_stalls_is_answered_and_the_connection_closed(settings: Settings) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings.model_copy(update={"ingress_body_timeout": 0.3})) as client:
        reader, writer = await _connect(client)
        writer.write(half_a_request(hook))
        answer = await asyncio.wait_for(reader.read(), 15)  # to the end: the server hangs up
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"0.3 seconds" in answer
        writer.close()
        assert await post(client, hook, FIELDS) == 200


async def test_a_client_that_hangs_up_in_its_body_leaves_a_trace(
    settings: Settings, logged: Sequence[Mapping[str, object]]
) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client:
        before = await metric(client, 'palomar_webhooks_refused_total{reason="broken_body"}')
        _, writer = await _connect(client)
        writer.write(half_a_request(hook))
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        async with asyncio.timeout(30):
            while await metric(client, 'palomar_webhooks_refused_total{reason="broken_body"}') == before:
                pass
        assert logged[-1]["reason"] == "broken_body"
        assert await post(client, hook, FIELDS) == 200


async def test_what_is_no_http_is_refused_counted_and_not_quoted(
    settings: Settings, logged: Sequence[Mapping[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    hook = await add_endpoint(settings)
    garbage = (
        b"POST /private \xff\x00 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization private\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: private\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"private" * 5000 + b"\r\n\r\n",
    )
    async with ingress(settings) as client:
        before = await metric(client, 'palomar_webhooks_refused_total{reason="malformed"}')
        for bytes_sent in garbage:
            reader, writer = await _connect(client)
            writer.write(bytes_sent)
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.0 400")
            writer.close()
        assert await metric(client, 'palomar_webhooks_refused_total{reason="malformed"}') == before + len(garbage)
        assert await post(client, hook, FIELDS) == 200
    assert [line["reason"] for line in logged if "reason" in line] == ["malformed"] * len(garbage)
    assert "private" not in json.dumps(logged, default=str) + caplog.text


async def test_unsigned_megabytes_from_many_clients_do_not_fill_the_memory(
    settings: Settings, environment: dict[str, str]
) -> None:
    hook = await add_endpoint(settings)
    async with ingress_process(environment) as running:

        async def throw(body: bytes, headers: Mapping[str, str]) -> int:
            async with running.client.post(hook.path(), data=BytesIO(body), headers=headers) as answer:
                return answer.status

        bomb, compressed = gzip.compress(bytes(64 * 2**20)), {"Content-Type": FORM, "Content-Encoding": "gzip"}
        thrown = await asyncio.gather(*(throw(bytes(2**20), {"Content-Type": FORM}) for _ in range(100)))
        assert set(thrown) == {403, 503}  # 503: no room for more of one endpoint
        assert set(await asyncio.gather(*(throw(bomb, compressed) for _ in range(50)))) == {415}
        assert await post(running.client, hook, FIELDS) == 200
        assert psutil.Process(running.process.pid).memory_info().rss < 150 * 2**20


async def _connect(client: aiohttp.ClientSession) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = client._build_url("/")
    return await asyncio.open_connection(url.host, url.port)
