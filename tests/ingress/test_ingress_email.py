"""Mails at the door: the secret in the URL, bodies with files in them, and what is kept of the URL."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp

from shared import database
from shared.database import new_id
from shared.domain.unsubscribe_links import owner
from shared.settings import Settings
from shared.store import endpoints
from tests.support.email_payloads import CONTENT_TYPE, fields, form
from tests.support.ingress import ingress, keys_of, webhooks

SECRET, OLD_SECRET = "the-new-one", "the-one-before"
MIB = 1024 * 1024


async def add_endpoint(settings: Settings) -> str:
    """The path of an endpoint, without its secret."""
    tenant_id, endpoint_id = new_id(), new_id()
    secrets = json.dumps({"url_secrets": [SECRET, OLD_SECRET]})
    sealed = keys_of(settings).seal(secrets, tenant_id=tenant_id, owner=endpoint_id)
    connection = await database.connect(settings, process="test")
    try:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Tienda')", tenant_id)
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "email", sealed))
    finally:
        await connection.close()
    return f"/webhooks/email/{endpoint_id}"


@asynccontextmanager
async def db_connection(settings: Settings) -> AsyncIterator[database.Connection]:
    connection = await database.connect(settings, process="test")
    try:
        yield connection
    finally:
        await connection.close()


async def post(client: aiohttp.ClientSession, path: str, body: bytes, content_type: str = CONTENT_TYPE) -> int:
    async with client.post(path, data=BytesIO(body), headers={"Content-Type": content_type}) as answer:
        return answer.status


async def test_a_mail_is_queued_as_it_came_and_the_secret_is_not(settings: Settings, amqp_url: str) -> None:
    path = await add_endpoint(settings)
    body = form(fields())
    async with ingress(settings) as client:
        assert await post(client, f"{path}/{SECRET}", body) == 200
        assert await post(client, f"{path}/{OLD_SECRET}?n=1", body + b"\r\n") == 200  # while it is being changed
        assert await post(client, f"{path}/{SECRET}x", body) == 403
        assert await post(client, f"{path}/", body) == 404
        assert await post(client, path, body) == 404
        assert await post(client, f"{path}/{SECRET}", body, "application/json") == 415
        async with client.get(f"{path}/{SECRET}") as answer:
            assert answer.status == 405
    first, second = await webhooks(amqp_url, 2)
    assert str(first["body"]).encode() == body
    for kept in (first, second):
        assert kept["provider"] == "email"
        assert str(kept["url"]).endswith(path)
        assert SECRET not in str(kept)
        assert OLD_SECRET not in str(kept)


async def test_a_mail_with_files_goes_its_own_way_and_has_a_limit(settings: Settings, amqp_url: str) -> None:
    path = f"{await add_endpoint(settings)}/{SECRET}"
    body = form(fields(attachment1=("f.bin", "application/octet-stream", b"\n" * (9 * MIB))))
    async with ingress(settings) as client:
        assert await post(client, path, body) == 200
        assert await post(client, path, body + b"\n" * MIB) == 413
        assert await post(client, f"{path}x", body + b"\n" * MIB) == 403  # without the secret the body is not read
    (kept,) = await webhooks(amqp_url, 1, "persist.large")
    # As JSON text the line breaks would take twice their room, and RabbitMQ takes no message above 16 MiB.
    assert kept["body_encoding"] == "base64"
    assert base64.b64decode(str(kept["body"])) == body


async def test_a_click_on_unsubscribe_is_queued_and_nobody_elses_link_is(settings: Settings, amqp_url: str) -> None:
    path = await add_endpoint(settings)
    message_id, other = new_id(), new_id()
    async with db_connection(settings) as connection:
        tenant_id = await connection.fetchval("SELECT tenant_id FROM endpoints")
    keys = keys_of(settings)
    proof = keys.seal("", tenant_id=tenant_id, owner=owner(message_id))
    link = f"{path}/unsubscribe/{message_id}/{proof}"
    async with ingress(settings) as client:
        async with client.get(link) as page:  # a scanner follows every link
            assert page.status == 200
            assert '<form method="post">' in await page.text()
        for wrong in (f"{path}/unsubscribe/{other}/{proof}", f"{path}/unsubscribe/x/{proof}", f"{link}x"):
            assert await post(client, wrong, b"List-Unsubscribe=One-Click") == 404
        async with client.get(f"{link}x") as page:
            assert page.status == 404
        form_type = "application/x-www-form-urlencoded"
        assert await post(client, link, b"List-Unsubscribe=One-Click", form_type) == 200
        # Another mail's, clicked in the same moment, is another webhook.
        others = keys.seal("", tenant_id=tenant_id, owner=owner(other))
        link = f"{path}/unsubscribe/{other}/{others}"
        assert await post(client, link, b"List-Unsubscribe=One-Click", form_type) == 200
    kept, too = await webhooks(amqp_url, 2, "persist.receipts")
    assert {str(one["url"]).rpartition("/")[2] for one in (kept, too)} == {str(message_id), str(other)}
    assert kept["inbound_id"] != too["inbound_id"]
    assert proof not in str(kept)
