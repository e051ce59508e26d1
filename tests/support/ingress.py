"""What the ingress tests share: an endpoint to call, webhooks signed by Twilio's own SDK, and a broker that stalls."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from uuid import UUID
from weakref import WeakKeyDictionary

import aio_pika
import aiohttp
import orjson
from twilio.request_validator import RequestValidator

from ingress.receive_process import receive
from shared import database
from shared.crypto import KeyRing
from shared.database import new_id
from shared.queue import topology
from shared.settings import Settings
from shared.store import endpoints
from tests.support.ports import free_port

PUBLIC_URL = "https://hooks.example.com/palomar"
TOKEN = "0123456789abcdef0123456789abcdef"
RETRY_DELAYS = Settings.model_fields["retry_delays"].default
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Hook:
    """An endpoint as the provider sees it."""

    id: UUID
    tenant_id: UUID | None
    token: str = TOKEN

    def path(self, tail: str = "") -> str:
        return f"/webhooks/twilio/{self.id}{tail}"

    def signed(self, fields: Mapping[str, str], tail: str = "", url: str | None = None) -> dict[str, str]:
        """Headers of a form post; the SDK's validator is the oracle."""
        signature = RequestValidator(self.token).compute_signature(url or PUBLIC_URL + self.path(tail), fields)
        return {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}


def form(fields: Mapping[str, str]) -> bytes:
    return urlencode(fields).encode()


def keys_of(settings: Settings) -> KeyRing:
    return KeyRing.parse(settings.secret_keys.get_secret_value())


async def add_endpoint(settings: Settings, *, secrets: str | None = None, spanning: bool = False) -> Hook:
    """Make an endpoint in the database; `secrets` replaces what is sealed for it."""
    connection = await database.connect(settings, process="test")
    try:
        hook = Hook(new_id(), None if spanning else new_id())
        if hook.tenant_id is not None:
            await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'Café')", hook.tenant_id)
        plain = json.dumps({"auth_tokens": [hook.token]}) if secrets is None else secrets
        sealed = keys_of(settings).seal(plain, tenant_id=hook.tenant_id, owner=hook.id)
        await endpoints.add(connection, endpoints.EndpointRow(hook.id, hook.tenant_id, "twilio", sealed))
        return hook
    finally:
        await connection.close()


@asynccontextmanager
async def ingress(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    """The receiving process inside this test's loop; yields a client of its public port."""
    ports = {"port": free_port(), "health_port": free_port()}
    settings = settings.model_copy(update={**ports, "public_url": PUBLIC_URL})
    stop = asyncio.Event()
    task = asyncio.create_task(receive(settings, keys_of(settings), stop))
    try:
        async with client_of(ports["port"], ports["health_port"]) as client:
            await answering(client, task)
            yield client
    finally:
        stop.set()
        await task


@asynccontextmanager
async def client_of(port: int, health_port: int) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the public port. `health` says where the same process tells of its health."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        _HEALTH[client] = f"http://127.0.0.1:{health_port}"
        yield client


_HEALTH: WeakKeyDictionary[aiohttp.ClientSession, str] = WeakKeyDictionary()


def health(client: aiohttp.ClientSession, page: str) -> str:
    """The URL of /healthz, /readyz or /metrics of the process whose public port this is a client of."""
    return _HEALTH[client] + page


@dataclass(frozen=True)
class IngressProcess:
    process: asyncio.subprocess.Process
    client: aiohttp.ClientSession


@asynccontextmanager
async def ingress_process(environment: Mapping[str, str], *options: str) -> AsyncIterator[IngressProcess]:
    """`python -m ingress receive` as a process of its own, ended with SIGTERM if it still runs."""
    port, health_port = int(environment.get("PORT") or free_port()), free_port()
    ports = {"PORT": str(port), "PALOMAR_HEALTH_PORT": str(health_port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingress", "receive", *options,
        env={**os.environ, **environment, **ports, "PALOMAR_PUBLIC_URL": PUBLIC_URL}, cwd=ROOT,
    )  # fmt: skip
    try:
        async with client_of(port, health_port) as client:
            await answering(client, asyncio.create_task(process.wait()))
            yield IngressProcess(process, client)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def answering(client: aiohttp.ClientSession, task: "asyncio.Task[None] | asyncio.Task[int]") -> None:
    """Return once it serves HTTP."""
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with client.get(health(client, "/healthz")):
                    return
            assert not task.done(), f"ingress ended: {task}"
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Return once it holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process's state has no event to wait for
            await asyncio.sleep(0.02)


async def post(client: aiohttp.ClientSession, hook: Hook, fields: Mapping[str, str], tail: str = "") -> int:
    """Post a signed form; returns the status."""
    async with client.post(hook.path(tail), data=form(fields), headers=hook.signed(fields, tail)) as answer:
        await answer.read()
        return answer.status


async def metric(client: aiohttp.ClientSession, name: str) -> float:
    """The value of a metric, with its labels as the text format writes them; 0 if it is not there yet."""
    async with client.get(health(client, "/metrics")) as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
    return 0.0


async def webhooks(amqp_url: str, count: int, queue: str = "persist") -> list[dict[str, object]]:
    """Take items off a queue until `count` different ones are there, and then whatever else it holds.

    Raises TimeoutError if they do not come.
    """
    items: list[dict[str, object]] = []
    async with asyncio.timeout(20), await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await topology.declare_missing(
            connection, RETRY_DELAYS
        )  # a broker that was away at first may not know them yet
        source = await channel.get_queue(queue, ensure=False)
        while True:
            message = await source.get(no_ack=True, fail=False)
            if message is not None:
                loaded = orjson.loads(message.body)
                assert loaded["type"] == message.type == "webhook.received"
                items += loaded["items"]
            elif len({str(item["inbound_id"]) for item in items}) >= count:
                return items
            else:
                await asyncio.sleep(0.05)


class FlakyBroker:
    """A TCP path to the real broker that can be stalled (bytes stop, connections stay) or cut."""

    def __init__(self, amqp_url: str) -> None:
        parts = urlsplit(amqp_url)
        self._target = (parts.hostname or "", parts.port or 5672)
        self._credentials, self._vhost = f"{parts.username}:{parts.password}", parts.path
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"amqp://{self._credentials}@127.0.0.1:{self._port}{self._vhost}"

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def cut(self) -> None:
        """Refuse connections and end those there are."""
        if self._server is not None:
            self._server.close()
        self._server = None
        self._flowing.set()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def mend(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def __aenter__(self) -> "FlakyBroker":
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        self._writers.discard(sink)
        sink.close()
        with suppress(OSError):
            await sink.wait_closed()
