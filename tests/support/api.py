"""What the API's tests stand on: the process inside the test, tenants with keys, and a client that calls by HTTP.

async with serving(settings) as api:
    ana = await api.tenant("contacts:read")
    answer = await api.get("/v1/contacts", ana)
    assert answer.status == 200
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from json import dumps
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from ingress.api.declaration import AnyProcedure
from ingress.api.process import serve
from ingress.api.rest_paths import Route, route
from shared import database
from shared.actions import api_keys, tenants
from shared.crypto import KeyRing
from shared.settings import Settings
from tests.support.ports import free_port


@dataclass(frozen=True)
class Tenant:
    """A tenant with a key; an operator where `id` is None."""

    id: UUID | None
    key: str
    key_id: UUID

    def with_key(self, key: str) -> "Tenant":
        return Tenant(self.id, key, self.key_id)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any  # JSON's, else text

    @property
    def problem(self) -> str:
        """The name of the problem's type."""
        return str(self.body["type"]).removeprefix("/docs#problem-")

    @property
    def pointers(self) -> list[str]:
        """The fields that the problem names."""
        return [error["pointer"] for error in self.body.get("errors", [])]


@dataclass
class ApiStage:
    """The API, serving."""

    settings: Settings
    pool: database.Pool
    client: aiohttp.ClientSession
    port: int
    health: str  # the URL of its other port

    async def tenant(self, *scopes: str, name: str = "") -> Tenant:
        """A new tenant with a key; with every scope where none is named."""
        async with self.pool.acquire() as connection, connection.transaction():
            made = await tenants.create(connection, name or f"Tienda {database.new_id()}")
            key = await api_keys.create(connection, made.id, "test", scopes or ["*"])
        return Tenant(made.id, key.key, key.stored.id)

    async def key(self, tenant: Tenant, *scopes: str) -> Tenant:
        """Another key of the same tenant."""
        async with self.pool.acquire() as connection, connection.transaction():
            key = await api_keys.create(connection, tenant.id, "test", scopes)
        return Tenant(tenant.id, key.key, key.stored.id)

    async def operator(self, *scopes: str) -> Tenant:
        """An operator's key."""
        async with self.pool.acquire() as connection, connection.transaction():
            key = await api_keys.create(connection, None, "test", scopes or ["*"])
        return Tenant(None, key.key, key.stored.id)

    async def request(
        self, method: str, path: str, whose: Tenant | None, *, json: Any = None, data: bytes | None = None,
        params: Mapping[str, str] | Iterable[tuple[str, str]] | None = None, **headers: str,
    ) -> Answer:  # fmt: skip
        """One request. The names of headers are written with `_` for `-`."""
        every = {name.replace("_", "-"): value for name, value in headers.items()}
        if whose is not None:
            every.setdefault("Authorization", f"Bearer {whose.key}")
        if json is not None:
            data = dumps(json).encode()
        if data is not None:
            every.setdefault("Content-Type", "application/json")
        query = None if params is None else list(params.items() if isinstance(params, Mapping) else params)
        body = None if data is None else BytesIO(data)
        async with self.client.request(method, path, data=body, params=query, headers=every) as answer:
            text = await answer.read()
            is_json = answer.content_type.endswith(("/json", "+json"))
            return Answer(answer.status, answer.headers, orjson.loads(text) if is_json and text else text.decode())

    async def get(self, path: str, whose: Tenant | None, **rest: Any) -> Answer:
        return await self.request("GET", path, whose, **rest)

    async def post(self, path: str, whose: Tenant | None, json: Any = None, **rest: Any) -> Answer:
        return await self.request("POST", path, whose, json=json, **rest)

    async def patch(self, path: str, whose: Tenant | None, json: Any = None, **rest: Any) -> Answer:
        return await self.request("PATCH", path, whose, json=json, **rest)

    async def delete(self, path: str, whose: Tenant | None, **rest: Any) -> Answer:
        return await self.request("DELETE", path, whose, **rest)

    async def call(
        self, procedure: AnyProcedure, whose: Tenant | None, given: Mapping[str, Any], **headers: Any
    ) -> Answer:
        """Call any query or mutation over REST, as its convention says. None in `given` is sent only in a body."""
        at = route(procedure)
        assert at is not None, f"{procedure.name} is a subscription"
        rest = dict(given)
        path = at.path
        if at.id_field is not None:
            path = path.replace(f"{{{at.id_field}}}", str(rest.pop(at.id_field)))
        if at.has_body:
            return await self.request(at.method, path, whose, json=rest, **headers)
        return await self.request(at.method, path, whose, params=in_query(rest), **headers)

    async def rows(self, query: str, *values: object) -> list[Any]:
        """As palomar_worker, who sees every tenant's."""
        return [dict(row) for row in await self.pool.fetch(query, *values)]

    async def events(self, whose: Tenant, family: str) -> list[dict[str, Any]]:
        """Name and detail of the tenant's events whose name begins with `family.`, in their order."""
        return await self.rows(
            "SELECT name, detail FROM events WHERE tenant_id = $1 AND name LIKE $2 || '.%' ORDER BY seq",
            *(whose.id, family),
        )


def in_query(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An input as a query string has it."""
    pairs: list[tuple[str, str]] = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            pairs.append((name, one if isinstance(one, str) else dumps(one)))
    return pairs


def route_of(procedure: AnyProcedure) -> Route:
    found = route(procedure)
    assert found is not None, f"{procedure.name} is a subscription"
    return found


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[ApiStage]:
    """The API's process inside this test's loop."""
    ports = {"api_port": free_port(), "port": free_port()}
    settings = settings.model_copy(update=ports)
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, keys, stop))
    health = f"http://127.0.0.1:{ports['port']}"
    try:
        async with (
            database.make_pool(settings, process="test", size=4) as pool,
            aiohttp.ClientSession(f"http://127.0.0.1:{ports['api_port']}") as client,
        ):
            await _ready(client, health, task)
            yield ApiStage(settings, pool, client, ports["api_port"], health)
    finally:
        stop.set()
        await task


async def _ready(client: aiohttp.ClientSession, health: str, task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with client.get(f"{health}/readyz") as answer:
                    if answer.status == 200:
                        return
            assert not task.done(), f"the API ended: {task}"
            await asyncio.sleep(0.02)
