"""Kommo's webhooks at the door: the secret in the URL or the signature checked, the body durable, an answer in time."""

import asyncio
import json
import time
from io import BytesIO

import aiohttp
import pytest

from ops.sandbox.kommo_forms import chats_headers
from shared import database
from shared.database import new_id
from shared.settings import Settings
from shared.store import endpoints
from tests.support.ingress import FlakyBroker, add_endpoint, health, ingress, keys_of, metric, until, webhooks
from tests.support.kommo_payloads import FORM, OLD_SECRET, SECRET, action, added, chats, form, said

URL_SECRET, OLD_URL_SECRET = "0123456789abcdef-new", "0123456789abcdef-old"
IN_TIME = 2.0  # seconds; what Kommo waits
QUICK_BUDGET = 0.3  # seconds for the broker's confirm


async def add_kommo(settings: Settings, secrets: str | None = None) -> str:
    """The path of an endpoint of Kommo's."""
    endpoint_id, tenant_id = new_id(), None
    plain = json.dumps({"channel_secrets": [SECRET, OLD_SECRET], "url_secrets": [URL_SECRET, OLD_URL_SECRET]})
    sealed = keys_of(settings).seal(secrets or plain, tenant_id=tenant_id, owner=endpoint_id)
    connection = await database.connect(settings, process="test")
    try:
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "kommo", sealed))
    finally:
        await connection.close()
    return f"/webhooks/kommo/{endpoint_id}"


async def post(client: aiohttp.ClientSession, path: str, body: bytes, **headers: str) -> int:
    async with client.post(path, data=BytesIO(body), headers={"Content-Type": FORM, **headers}) as answer:
        return answer.status


def event(number: int = 0) -> bytes:
    return form(added("message", said(id=f"m{number}")))


async def test_a_crm_webhook_is_let_in_by_the_end_of_its_url_which_goes_no_further(
    settings: Settings, amqp_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = await add_kommo(settings)
    leads = form({"leads[update][0][id]": "1"})
    bare = b"add%5B0%5D%5Bid%5D=m2&add%5B0%5D%5Bchat_id%5D=c"  # as some accounts report a message
    async with ingress(settings) as client:
        assert await post(client, f"{path}/{URL_SECRET}", event()) == 200
        assert await post(client, f"{path}/{OLD_URL_SECRET}", event(1)) == 200  # while it is rotated
        assert await post(client, f"{path}/{URL_SECRET}", leads) == 200
        assert await post(client, f"{path}/{URL_SECRET}", bare) == 200
        for wrong in (f"{path}/{URL_SECRET}x", f"{path}/{SECRET.replace(' ', '-')}", f"{path}/x?{URL_SECRET}"):
            async with client.post(wrong, data=event(), headers={"Content-Type": FORM}) as answer:
                assert answer.status == 403
                assert "end with the secret" in await answer.text()
        assert await post(client, path, event()) == 404
        assert await post(client, f"{path}/{URL_SECRET}/", event()) == 404
        assert await post(client, f"{path}/{URL_SECRET}", event(), **{"Content-Type": "text/plain"}) == 415
        async with client.get(f"{path}/{URL_SECRET}") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        async with client.get(health(client, "/metrics")) as answer:
            assert 'palomar_webhooks_refused_total{reason="signature"} ' in await answer.text()
    items = await webhooks(amqp_url, 3)
    assert {str(item["body"]).encode() for item in items} == {event(), event(1), bare}
    assert all(str(item["url"]).endswith(path) and not item["receipts"] for item in items)
    # A webhook without a message goes to a queue of its own.
    assert [str(item["body"]).encode() for item in await webhooks(amqp_url, 1, "persist.receipts")] == [leads]
    logged = "".join(capsys.readouterr())
    assert URL_SECRET not in logged
    assert URL_SECRET not in json.dumps(items, default=str)


async def test_a_chats_api_webhook_is_let_in_by_its_signature(settings: Settings, amqp_url: str) -> None:
    path = await add_kommo(settings)
    body, typing = json.dumps(chats()).encode(), json.dumps(action("typing")).encode()
    async with ingress(settings) as client:
        assert await post(client, f"{path}/chats/scope-1", body, **chats_headers(body, SECRET)) == 200
        assert await post(client, f"{path}/chats", body + b"\n", **chats_headers(body, OLD_SECRET)) == 200  # trimmed
        assert await post(client, f"{path}/chats/scope-1", typing, **chats_headers(typing, SECRET)) == 200
        assert await post(client, f"{path}/chats/scope-1", body, **chats_headers(body, URL_SECRET)) == 403
        assert await post(client, f"{path}/chats/scope-1", body, **{"Content-Type": "application/json"}) == 403
        assert await post(client, f"{path}/chats/scope-1", body) == 415
    items = await webhooks(amqp_url, 2)
    assert sorted(str(item["url"]).partition("/chats")[2] for item in items) == ["", "/scope-1"]
    assert len(await webhooks(amqp_url, 1, "persist.receipts")) == 1


@pytest.mark.parametrize(
    "secrets", ['{"auth_tokens": ["x"]}', '{"channel_secrets": ["s"], "url_secrets": ["short"]}', "{}"]
)
async def test_secrets_of_another_shape_let_nothing_in(settings: Settings, secrets: str) -> None:
    path = await add_kommo(settings, secrets)
    async with ingress(settings) as client:
        assert await post(client, f"{path}/{URL_SECRET}", event()) == 503
        assert await post(client, f"{path}/short", event()) == 503


async def test_another_providers_endpoint_is_none_of_kommos(settings: Settings) -> None:
    twilio = await add_endpoint(settings)
    async with ingress(settings) as client:
        assert await post(client, f"/webhooks/kommo/{twilio.id}/{URL_SECRET}", event()) == 404


@pytest.mark.alone
async def test_a_broker_that_hangs_keeps_kommo_waiting_no_longer_than_it_waits(
    settings: Settings, amqp_url: str
) -> None:
    path = await add_kommo(settings)
    async with FlakyBroker(amqp_url) as broker:
        url = type(settings.amqp_url)(broker.url)
        behind = settings.model_copy(update={"amqp_url": url, "ingress_publish_budget": QUICK_BUDGET})
        async with ingress(behind) as client:
            assert await post(client, f"{path}/{URL_SECRET}", event()) == 200
            broker.stall()
            started = time.monotonic()
            statuses = await asyncio.gather(*(post(client, f"{path}/{URL_SECRET}", event(n)) for n in range(1, 31)))
            took = time.monotonic() - started
            assert statuses == [200] * 30
            # With the budget that is set there is as much more time as the budget is longer.
            assert took - QUICK_BUDGET + settings.ingress_publish_budget < IN_TIME
            broker.flow()

            async def drained() -> bool:
                return await metric(client, "palomar_spool_webhooks") == 0

            await until(drained)
    assert {str(item["body"]).encode() for item in await webhooks(amqp_url, 31)} == {event(n) for n in range(31)}
