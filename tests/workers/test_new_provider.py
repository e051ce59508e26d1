"""A provider that is one folder and one migration: it receives webhooks, answers them and takes delivery receipts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from schema import migrate
from shared import database
from shared.settings import Settings
from shared.store import channels, endpoints
from tests.support import pigeon
from tests.support.ingress import answering, client_of, keys_of
from tests.support.ports import free_port
from tests.support.stage import CUSTOMER, Stage, staged

LOFT = "+34911000001"
SEAL, KEY = "seal-of-the-loft", "key-of-the-loft"
MIGRATION = """
CREATE OR REPLACE FUNCTION providers() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY['kommo', 'twilio', 'meta', 'email', 'pigeon']
$$;
"""


@dataclass
class Loft:
    """The provider's API: takes letters and names them."""

    url: str = ""
    letters: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == KEY
        self.letters.append(await request.json())
        return web.json_response({"id": f"letter-{len(self.letters)}"})


@asynccontextmanager
async def open_loft() -> AsyncIterator[Loft]:
    loft, app = Loft(), web.Application()
    app.router.add_post("/letters", loft.take)
    async with TestServer(app) as server:
        loft.url = str(server.make_url("/letters"))
        yield loft


async def install(settings: Settings, folder: Path) -> Path:
    """What a new provider adds to the system; returns the folder of its providers."""
    (folder / "migrations").mkdir()
    (folder / "migrations" / "9999_pigeon.sql").write_text(MIGRATION)
    (folder / "migrations" / "9999_pigeon.rollback.sql").write_text("SELECT 1;\n")
    await asyncio.to_thread(migrate.apply, settings.database_url.get_secret_value(), folder / "migrations")
    (folder / "providers" / "pigeon").mkdir(parents=True)
    copy(pigeon.__file__, folder / "providers" / "pigeon" / "__init__.py")
    return folder / "providers"


async def add_channel(stage: Stage, loft: Loft) -> str:
    """A channel that greets each customer; returns the path of its webhooks."""
    tenant_id, endpoint_id, channel_id = database.new_id(), database.new_id(), database.new_id()
    sealed = keys_of(stage.settings).seal(json.dumps({"seals": [SEAL]}), tenant_id=tenant_id, owner=endpoint_id)
    async with stage.pool.acquire() as connection, connection.transaction():
        await channels.add_tenant(connection, tenant_id, "Palomar")
        await endpoints.add(connection, endpoints.EndpointRow(endpoint_id, tenant_id, "pigeon", sealed))
        await channels.add(
            connection,
            channel_id=channel_id,
            tenant_id=tenant_id,
            endpoint_id=endpoint_id,
            provider="pigeon",
            kind="sms",
            name="",
            address=LOFT,
            credentials=stage.sealed({"api_url": loft.url, "key": KEY}, tenant_id, channel_id),
            settings={"reply": {"greeting": "Coo", "menu": []}},
        )
    return f"/webhooks/pigeon/{endpoint_id}"


@asynccontextmanager
async def running(stage: Stage, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Ingress and all workers as processes that find the provider; yields a client of the public port."""
    port, health_port = free_port(), free_port()
    settings = stage.settings.model_copy(update={"port": port, "health_port": health_port})
    module = "tests.support.with_providers"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stage.running(str(folder), "workers", "all", module=module))
        receiver = stage.running(str(folder), "ingress", "receive", module=module, settings=settings)
        process = await stack.enter_async_context(receiver)
        client = await stack.enter_async_context(client_of(port, health_port))
        await answering(client, asyncio.create_task(process.wait()))
        yield client


async def post(client: aiohttp.ClientSession, path: str, fields: dict[str, str], seal: str = SEAL) -> int:
    body = json.dumps(fields).encode()
    headers = {"Content-Type": "application/json", "X-Pigeon-Seal": pigeon.signature(seal, body)}
    async with client.post(path, data=body, headers=headers) as answer:
        return answer.status


async def test_a_provider_that_is_one_folder_and_one_migration(settings: Settings, tmp_path: Path) -> None:
    folder = await install(settings, tmp_path)
    async with open_loft() as loft, staged(settings) as stage:
        path = await add_channel(stage, loft)
        async with running(stage, folder) as client:
            hello = {"id": "hello-1", "from": CUSTOMER, "to": LOFT, "text": "hola"}
            await stage.until(post, client, path, hello, equals=200)
            await stage.until(stage.statuses, equals=["sent"])
            assert loft.letters == [{"from": LOFT, "to": CUSTOMER, "text": "Coo"}]
            assert await post(client, path, {"id": "letter-1", "status": "delivered"}) == 200
            await stage.until(stage.statuses, equals=["delivered"])
            assert await post(client, path, hello, seal="another") == 403
            assert await stage.dead_letters() == {}
