"""What the tests of the palomar command share: the command as a person runs it, and real dead letters."""

import asyncio
import atexit
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from shared import database
from shared.queue import topology
from shared.queue.connection import Link
from shared.queue.jobs import WebhookReceived
from shared.queue.outcomes import DeadLetter
from shared.queue.publisher import Publisher
from shared.queue.runner import Runner
from shared.queue.worker import Context, Worker
from shared.settings import Settings
from tests.support.preloaded import Server

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = UUID("01890000-0000-7000-8000-000000000001")


def palomar(
    environment: Mapping[str, str], *arguments: str, given: str = "", seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder without `.palomar/env`, so that only `environment` configures it."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return _server().run(arguments, env=environ, cwd=environment["PALOMAR_STATE_DIR"], given=given, seconds=seconds)


@cache
def _server() -> Server:
    server = Server()
    atexit.register(server.close)
    return server


def webhook(number: int) -> WebhookReceived:
    return WebhookReceived.of(
        ENDPOINT, f"MessageSid=SM{number}&Body=hola {number}".encode(), provider="twilio", received_at=datetime.now(UTC)
    )


@asynccontextmanager
async def broker_channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    """A channel on the test's broker, with everything declared."""
    async with await aio_pika.connect(settings.amqp_url.get_secret_value()) as connection:
        await topology.declare_missing(connection, settings.retry_delays)
        yield await connection.channel()


async def depth(settings: Settings, queue: str) -> int:
    """How many messages are ready in a queue."""
    async with broker_channel(settings) as channel:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def depth_reaches(settings: Settings, queue: str, least: int) -> None:
    """Return once so many messages are ready in a queue."""
    async with asyncio.timeout(20):
        while True:
            if await depth(settings, queue) >= least:
                return
            await asyncio.sleep(0.01)


async def taken(settings: Settings, queue: str) -> list[AbstractIncomingMessage]:
    """Take everything that is ready in a queue."""
    async with broker_channel(settings) as channel:
        source = await channel.get_queue(queue, ensure=False)
        messages = []
        while (message := await source.get(no_ack=True, fail=False)) is not None:
            messages.append(message)
        return messages


async def dead_letter(settings: Settings, webhooks: Sequence[WebhookReceived], reason: str) -> None:
    """Let a worker of the persist queue give these up, each in its own envelope, in order."""
    worker: Worker[WebhookReceived, None] = Worker(
        name="persist", queues=(topology.PERSIST,), consumes=(WebhookReceived,), concurrency=1
    )

    @worker.handle
    async def refuse(_: WebhookReceived, __: Context[None]) -> None:
        raise DeadLetter(reason)

    url = settings.amqp_url.get_secret_value()
    publisher = Publisher(url, "test", timeout=5, delays=settings.retry_delays)
    link = Link(url, "test consume")
    before = await depth(settings, topology.PERSIST.dead_letters)
    async with database.make_pool(settings, process="test") as pool:
        watch = database.DatabaseWatch(pool)
        await publisher.start()
        await publisher.wait_ready()
        runner = Runner(worker, topology.PERSIST, Context(settings, pool, publisher, None), watch)
        for one in webhooks:
            await publisher.publish(one)
        link.start()
        runner.start(link)
        await depth_reaches(settings, topology.PERSIST.dead_letters, before + len(webhooks))
        await runner.stop(5)
        await link.close()
        await publisher.close()
        await watch.close()
