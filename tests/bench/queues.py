"""The broker's side of a measurement: queues filled as ingress or as the floor fills them, emptied, and counted."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aio_pika
import aiormq
import orjson
from aio_pika.abc import AbstractChannel, AbstractQueue
from prometheus_client import REGISTRY

from ops.demo.twilio import DEMO
from shared.queue import topology
from shared.queue.jobs import WebhookReceived
from shared.queue.publisher import Publisher
from shared.settings import Settings
from tests.bench.webhooks import CONTENT_TYPE

SETTLES_WITHIN = 10.0  # seconds
CONSUMED_WITHIN = 30.0  # seconds
AT_ONCE = 64  # as many publish as connections bring webhooks to ingress


@asynccontextmanager
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel with confirms, for one errand."""
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel(publisher_confirms=True, on_return_raises=True) as opened:
        yield opened


async def floor_queue(on: AbstractChannel, name: str) -> AbstractQueue:
    """The floor's queue, as its programs declare it."""
    return await on.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})


async def fill_singly(amqp_url: str, name: str, bodies: Sequence[bytes]) -> None:
    """One message for each body."""
    waiting = iter(bodies)
    async with channel(amqp_url) as opened:
        await (await floor_queue(opened, name)).purge()

        async def publish() -> None:
            for body in waiting:
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await opened.default_exchange.publish(message, name)

        await asyncio.gather(*(publish() for _ in range(AT_ONCE)))


async def fill_as_ingress(settings: Settings, bodies: Sequence[bytes]) -> int:
    """Through ingress's own publisher, so that the webhooks share envelopes as those of 64 connections do.

    Returns how many envelopes they became.
    """
    before = _envelopes()
    publisher = Publisher(
        settings.amqp_url.get_secret_value(), "bench", timeout=settings.publish_timeout, delays=settings.retry_delays
    )
    await publisher.start()
    waiting = iter(bodies)

    async def publish() -> None:
        for body in waiting:
            await publisher.publish(
                WebhookReceived.of(
                    DEMO.endpoint_id,
                    body,
                    tenant_id=DEMO.tenant_id,
                    provider="twilio",
                    received_at=datetime.now(UTC),
                    url=DEMO.webhook_url(settings.public_url),
                    content_type=CONTENT_TYPE,
                    headers={"content-type": CONTENT_TYPE, "user-agent": "TwilioProxy/1.1"},
                )
            )

    try:
        await asyncio.wait_for(publisher.wait_ready(), 30)
        await asyncio.gather(*(publish() for _ in range(AT_ONCE)))
    finally:
        await publisher.close()
    return _envelopes() - before


def _envelopes() -> int:
    """Envelopes this process has published."""
    return int(REGISTRY.get_sample_value("palomar_envelope_items_count") or 0)


async def broker_version(amqp_url: str) -> str:
    """What RabbitMQ says of itself."""
    connection = aiormq.Connection(amqp_url)
    await connection.connect()
    version = connection.server_properties.get("version")
    await connection.close()
    return str(version)


async def depth(amqp_url: str, name: str) -> int:
    """Messages that stand ready in a queue."""
    async with channel(amqp_url) as opened:
        declared = await opened.declare_queue(name, passive=True)
        return declared.declaration_result.message_count or 0


async def consumers(amqp_url: str, name: str) -> int:
    """How many consume this queue; 0 too while there is none."""
    try:
        async with channel(amqp_url) as opened:
            declared = await opened.declare_queue(name, passive=True)
            return declared.declaration_result.consumer_count or 0
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return 0


async def until_consumed(amqp_url: str, *names: str) -> None:
    """Return once each of these queues has a consumer. Raises TimeoutError."""
    async with asyncio.timeout(CONSUMED_WITHIN):
        for name in names:
            while not await consumers(amqp_url, name):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def purge(amqp_url: str, *names: str) -> None:
    """Empty these queues."""
    async with channel(amqp_url) as opened:
        for name in names:
            await (await opened.get_queue(name, ensure=False)).purge()


async def purge_work(amqp_url: str) -> None:
    """Empty the queues of all workers."""
    await purge(amqp_url, *(queue.name for queue in topology.QUEUES))


async def settled(amqp_url: str, name: str, wanted: int) -> int:
    """Messages that stand ready, once there are as many as wanted or after SETTLES_WITHIN.

    A quorum queue under load tells its depth late, or 0 for not knowing it.
    """
    deadline = time.monotonic() + SETTLES_WITHIN
    while (standing := await depth(amqp_url, name)) != wanted and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return standing


async def take_envelopes(amqp_url: str, name: str, known: set[str], webhooks: int) -> list[list[str]]:
    """Empty a queue of envelopes until so many webhooks that are not `known` were in them; adds them to `known`.

    Returns the inbound ids of each envelope. One may come twice, also in a later round: on a busy machine ingress's
    patience with the broker ends, and what was confirmed too late is in the spool as well. Gives up where nothing
    more comes for SETTLES_WITHIN.
    """
    taken: list[list[str]] = []
    wanted = len(known) + webhooks
    async with channel(amqp_url) as opened:
        queue = await opened.get_queue(name, ensure=False)
        await opened.set_qos(prefetch_count=100)
        with suppress(TimeoutError):
            async with queue.iterator(timeout=SETTLES_WITHIN) as messages:
                async for message in messages:
                    taken.append([item["inbound_id"] for item in orjson.loads(message.body)["items"]])
                    await message.ack()
                    known.update(taken[-1])
                    if len(known) >= wanted:
                        break
    return taken
