"""Meta's webhooks at the door: the URL verified, the signature checked, the body made durable in its lane."""

import hmac
import json
from io import BytesIO

import aiohttp
import pytest

from shared import database
from shared.database import new_id
from shared.settings import Settings
from shared.store import endpoints
from tests.support.ingress import Hook, add_endpoint, form, ingress, keys_of, webhooks
from tests.support.meta_payloads import body, entry, receipt_json, said, value

SECRET, OLD_SECRET = "the app's secret", "the one before"
VERIFY_TOKEN = "ours alone"
CHALLENGE = {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1158201444"}


async def add_app(settings: Settings, secrets: str | None = None) -> str:
    """The path of an endpoint that serves several tenants."""
    endpoint_id = new_id()
    plain = json.dumps({"app_secrets": [SECRET, OLD_SECRET], "verify_token": VERIFY_TOKEN})
    sealed = keys_of(settings).seal(secrets or plain, tenant_id=None, owner=endpoint_id)
    connection = await database.connect(settings, process="test")
    try:
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, None, "meta", sealed))
    finally:
        await connection.close()
    return f"/webhooks/meta/{endpoint_id}"


async def post(client: aiohttp.ClientSession, path: str, given: bytes, secret: str = SECRET, **headers: str) -> int:
    signature = "sha256=" + hmac.new(secret.encode(), given, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": signature, "Content-Type": "application/json", **headers}
    async with client.post(path, data=BytesIO(given), headers=headers) as answer:
        return answer.status


async def test_meta_verifies_the_url(settings: Settings) -> None:
    path = await add_app(settings)
    async with ingress(settings) as client:
        async with client.get(path, params=CHALLENGE) as answer:
            assert (answer.status, await answer.text()) == (200, "1158201444")
            assert answer.content_type == "text/plain"
        for wrong in ({"hub.verify_token": "theirs"}, {"hub.verify_token": ""}, {"hub.mode": "unsubscribe"}):
            async with client.get(path, params={**CHALLENGE, **wrong}) as answer:
                assert answer.status == 403
                assert "verify token" in await answer.text()
        async with client.get(path.replace("0", "1"), params=CHALLENGE) as answer:
            assert answer.status == 404
        async with client.put(path) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")


async def test_a_signed_webhook_is_queued_as_it_came(settings: Settings, amqp_url: str) -> None:
    path = await add_app(settings)
    given = body(entry(value(said(text={"body": "¡hola! 🕊"}))))
    async with ingress(settings) as client:
        assert await post(client, path, given) == 200
        assert await post(client, path, given + b" ", OLD_SECRET) == 200  # while the secret is rotated
        assert await post(client, path, given, "another secret") == 403
        assert await post(client, path, given, **{"Content-Type": "text/plain"}) == 415
        assert await post(client, path + "/status", given) == 404
    first, second = await webhooks(amqp_url, 2)
    assert str(first["body"]).encode() == given
    assert [item["provider"] for item in (first, second)] == ["meta", "meta"]
    assert (first["tenant_id"], first["receipts"]) == (None, False)


async def test_receipts_have_their_own_lane_and_do_not_take_messages_with_them(
    settings: Settings, amqp_url: str
) -> None:
    path = await add_app(settings)
    receipts = body(entry(value(statuses=(receipt_json(),))))
    both = body(entry(value(said()), value(statuses=(receipt_json(),))))
    words = body(entry(value(said(text={"body": 'a "statuses" of mine'}))))
    async with ingress(settings) as client:
        for given in (receipts, both, words):
            assert await post(client, path, given) == 200
    assert [item["receipts"] for item in await webhooks(amqp_url, 1, "persist.receipts")] == [True]
    assert {str(item["body"]).encode() for item in await webhooks(amqp_url, 2)} == {both, words}


async def test_meta_may_send_three_megabytes_and_twilio_one(settings: Settings) -> None:
    path, twilio = await add_app(settings), await add_endpoint(settings)
    large = body(entry(value(said(text={"body": "x" * (3 * 1024 * 1024 - 2000)}))))
    too_large = body(entry(value(said(text={"body": "x" * (3 * 1024 * 1024)}))))
    async with ingress(settings) as client:
        assert await post(client, path, large) == 200
        assert await post(client, path, too_large) == 413
        fields = {"MessageSid": "SM1", "Body": "x" * (1024 * 1024)}
        async with client.post(twilio.path(), data=BytesIO(form(fields)), headers=twilio.signed(fields)) as answer:
            assert answer.status == 413


@pytest.mark.parametrize("secrets", ['{"auth_tokens": ["x"]}', '{"app_secrets": [], "verify_token": "x"}', "{}"])
async def test_secrets_of_another_shape_verify_nothing(settings: Settings, secrets: str) -> None:
    path = await add_app(settings, secrets)
    async with ingress(settings) as client:
        assert await post(client, path, body()) == 503
        async with client.get(path, params=CHALLENGE) as answer:
            assert answer.status == 503


async def test_a_providers_endpoint_is_unknown_under_anothers_name(settings: Settings) -> None:
    path, twilio = await add_app(settings), await add_endpoint(settings)
    async with ingress(settings) as client:
        assert await post(client, f"/webhooks/meta/{twilio.id}", body()) == 404
        other = Hook(twilio.id, None)
        async with client.post(path.replace("meta", "twilio"), data=b"", headers=other.signed({})) as answer:
            assert answer.status == 404
