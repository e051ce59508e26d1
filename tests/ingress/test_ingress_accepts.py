"""A correctly signed webhook becomes a message in the queue, exactly as it arrived, and only then a 2xx."""

import asyncio
import hashlib
import json
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp
import pytest
from twilio.request_validator import RequestValidator
from yarl import URL

from shared.queue.jobs import LARGE, WebhookReceived, inbound_id_of
from shared.settings import Settings
from tests.support.ingress import PUBLIC_URL, TOKEN, Hook, add_endpoint, form, ingress, metric, post, webhooks

FIELDS = {"MessageSid": "SM1", "From": "whatsapp:+5215512345678", "To": "whatsapp:+5215500000000", "Body": "¿Hola? 🕊"}


async def test_a_signed_webhook_is_in_the_queue_once_it_is_acknowledged(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    before = datetime.now(UTC)
    async with ingress(settings) as client:
        headers = {
            **hook.signed(FIELDS),
            "I-Twilio-Idempotency-Token": "token-1",
            "User-Agent": "TwilioProxy/1.1",
            "Authorization": "Basic c2VjcmV0",
            "Cookie": "secret=1",
        }
        async with client.post(hook.path(), data=form(FIELDS), headers=headers) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/xml"
            assert await answer.text() == '<?xml version="1.0" encoding="UTF-8"?><Response/>'
        (item,) = await webhooks(amqp_url, 1)
    webhook = WebhookReceived.model_validate(item)
    assert webhook.raw_body == form(FIELDS)
    assert webhook.inbound_id == inbound_id_of(hook.id, form(FIELDS))
    assert webhook.trace == webhook.inbound_id[:16]
    assert (webhook.endpoint_id, webhook.tenant_id, webhook.provider) == (hook.id, hook.tenant_id, "twilio")
    assert before <= webhook.received_at <= datetime.now(UTC)
    assert (webhook.method, webhook.url) == ("POST", PUBLIC_URL + hook.path())
    assert webhook.headers == {
        "content-type": "application/x-www-form-urlencoded",
        "user-agent": "TwilioProxy/1.1",
        "i-twilio-idempotency-token": "token-1",
    }
    assert not webhook.receipts


async def test_receipts_travel_in_their_own_lane(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings, spanning=True)
    async with ingress(settings) as client:
        assert await post(client, hook, {"MessageSid": "SM1", "MessageStatus": "read"}, "/status") == 200
        (item,) = await webhooks(amqp_url, 1, "persist.receipts")
    assert item["receipts"] is True
    assert item["tenant_id"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Body": ""},
        {"Body": "a\0b"},
        {"Body": "x" * 1_000_000},
        {"Body": "=&+%", "Ünknown": "ß"},
        {f"Field{number}": str(number) for number in range(60)},
    ],
    ids=["empty", "blank", "nul", "1 MB", "reserved", "many"],
)
async def test_whatever_was_signed_is_taken_as_it_is(
    settings: Settings, amqp_url: str, fields: Mapping[str, str]
) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client:
        assert await post(client, hook, fields) == 200
        (item,) = await webhooks(amqp_url, 1, "persist.large" if len(form(fields)) > LARGE else "persist")
    assert WebhookReceived.model_validate(item).raw_body == form(fields)


async def test_bytes_that_are_no_utf_8_arrive_as_they_were(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    body = b"Body=\xff\xfe"
    headers = hook.signed({"Body": "��"})
    async with ingress(settings) as client:
        async with client.post(hook.path(), data=body, headers=headers) as answer:
            assert answer.status == 200
        (item,) = await webhooks(amqp_url, 1)
    assert item["body_encoding"] == "base64"
    assert b64decode(str(item["body"])) == body


async def test_json_is_taken_when_the_query_carries_its_hash(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    body = json.dumps(FIELDS).encode()
    tail = f"?bodySHA256={hashlib.sha256(body).hexdigest()}&x=%2F"
    signature = RequestValidator(TOKEN).compute_signature(PUBLIC_URL + hook.path(tail), {})
    headers = {"X-Twilio-Signature": signature, "Content-Type": "application/json"}
    async with ingress(settings) as client:
        url = URL(str(client._build_url(hook.path())) + tail, encoded=True)
        async with client.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200
        (item,) = await webhooks(amqp_url, 1)
    assert item["url"] == PUBLIC_URL + hook.path(tail)
    assert item["content_type"] == "application/json"


async def test_what_the_request_says_about_its_host_counts_for_nothing(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    lies = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    async with ingress(settings) as client:
        for url, status in ((None, 200), (f"http://evil.example{hook.path()}", 403)):
            headers = {**hook.signed(FIELDS, url=url), **lies}
            async with client.post(hook.path(), data=form(FIELDS), headers=headers) as answer:
                assert answer.status == status


async def test_headers_that_are_no_text_harm_nothing(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    signature = hook.signed(FIELDS)["X-Twilio-Signature"]
    body = form(FIELDS)
    async with ingress(settings) as client:
        reader, writer = await _raw(client)
        writer.write(
            f"POST {hook.path()} HTTP/1.1\r\nHost: x\r\nX-Twilio-Signature: {signature}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n".encode()
            + b"User-Agent: \xff\xfe caf\xc3\xa9\r\n\r\n"
            + body
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        (item,) = await webhooks(amqp_url, 1)
    assert item["headers"]["user-agent"] == "?? café"  # type: ignore[index]


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(settings: Settings, amqp_url: str) -> None:
    """`Expect: 100-continue`, as many clients send with anything but a small body."""
    hook = await add_endpoint(settings)
    head, _, body = _request(hook, FIELDS).partition(b"\r\n\r\n")
    async with ingress(settings) as client:
        reader, writer = await _raw(client)
        writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
        writer.close()
        (item,) = await webhooks(amqp_url, 1)
    assert WebhookReceived.model_validate(item).raw_body == body


async def test_a_body_that_nobody_wants_is_not_asked_for(settings: Settings) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client:
        reader, writer = await _raw(client)
        writer.write(
            f"POST {hook.path()} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            "Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_many_at_once_all_arrive_and_share_publishes(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client:
        before = await metric(client, "palomar_envelope_items_count")
        statuses = await asyncio.gather(*(post(client, hook, {"Body": str(number)}) for number in range(300)))
        assert statuses == [200] * 300
        assert await metric(client, "palomar_envelope_items_count") - before < 150
        items = await webhooks(amqp_url, 300)
    assert {item["body"] for item in items} == {f"Body={number}" for number in range(300)}
    assert len(items) == 300


async def test_a_client_that_hangs_up_after_its_body_has_lost_nothing(settings: Settings, amqp_url: str) -> None:
    hook = await add_endpoint(settings)
    async with ingress(settings) as client:
        for number in range(20):
            fields = {"Body": str(number)}
            _, writer = await _raw(client)
            writer.write(_request(hook, fields))
            await writer.drain()
            writer.transport.abort() if number % 2 else writer.close()
        items = await webhooks(amqp_url, 20)
    assert {item["body"] for item in items} == {f"Body={number}" for number in range(20)}


def _request(hook: Hook, fields: Mapping[str, str]) -> bytes:
    body = form(fields)
    headers = {**hook.signed(fields), "Host": "x", "Content-Length": str(len(body))}
    lines = [f"POST {hook.path()} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


async def _raw(client: aiohttp.ClientSession) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = client._build_url("/")
    return await asyncio.open_connection(url.host, url.port)
