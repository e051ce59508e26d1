"""The process that receives webhooks: opens what it needs and its ports, and serves until it is to stop."""

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final

from ingress.endpoint_directory import Directory
from ingress.receive.app import Receiver
from ingress.receive.durability import DurableQueue
from ingress.receive.spool import Spool
from shared.crypto import KeyRing
from shared.http.connections import BoundedServer
from shared.http.sources import Sources
from shared.process import health, log
from shared.queue.publisher import Publisher
from shared.settings import RECEIVE_HEALTH_PORT, RECEIVE_PORT, Settings

NAME: Final = "receive"
BROKER_WAIT: Final = 3.0  # seconds a start waits for the broker, so that the first webhooks need no spool


async def receive(
    settings: Settings,
    keys: KeyRing,
    stop: asyncio.Event,
    *,
    share_port: bool = False,
    serve_health: health.Serve | None = None,
) -> None:
    """Receive webhooks until `stop` is set, then finish those in hand. Raises OSError where the port is taken.

    With `share_port` several processes serve one port, and the kernel spreads connections over them. `serve_health` is
    where it says how it is, a port of its own unless given.
    """
    serve_health = serve_health or health.at_port(settings.host, _health_port(settings, share_port=share_port))
    logger = log.get_logger("ingress")
    async with AsyncExitStack() as stack:
        spool = Spool(settings.state_dir / "spool", limit=settings.spool_limit)
        stack.push_async_callback(spool.close)
        publisher = Publisher(
            settings.amqp_url.get_secret_value(), NAME, timeout=settings.publish_timeout, delays=settings.retry_delays
        )
        await publisher.start()
        stack.push_async_callback(publisher.close)
        queue = DurableQueue(publisher, spool, budget=settings.ingress_publish_budget)
        await queue.start()
        stack.push_async_callback(queue.close)
        directory = Directory(settings, keys)
        stack.push_async_callback(directory.close)
        await directory.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(BROKER_WAIT):
                await publisher.wait_ready()

        sources = Sources(settings.trusted_proxies)
        receiver = Receiver(
            directory,
            queue,
            public_url=settings.public_url,
            body_limit=settings.ingress_body_limit,
            body_timeout=settings.ingress_body_timeout,
            bytes_in_hand=settings.ingress_bytes,
            sources=sources,
            keys=keys,
        )
        health_port = await stack.enter_async_context(
            serve_health(lambda: _missing(directory, queue), lambda: _warnings(directory, queue))
        )
        port = await stack.enter_async_context(
            health.serving(
                receiver.answer,
                settings.host,
                RECEIVE_PORT if settings.port is None else settings.port,
                reuse_port=share_port,
                kind=partial(BoundedServer, waiting=settings.waiting_connections, sources=sources),
            )
        )
        logger.info("receiving", host=settings.host, port=port, health_port=health_port, public_url=settings.public_url)
        await stop.wait()
        logger.info("stopping", spooled=spool.depth())
    logger.info("stopped", spooled=spool.depth())


def _missing(directory: Directory, queue: DurableQueue) -> dict[str, str]:
    """Why no webhook can be accepted, by the part that is unready."""
    reasons = {"directory": directory.unready_reason, "durability": queue.unready_reason}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _warnings(directory: Directory, queue: DurableQueue) -> dict[str, str]:
    """What an operator should look at, though webhooks are accepted."""
    warnings = {"directory": directory.warning, "spool": queue.warning}
    return {name: warning for name, warning in warnings.items() if warning is not None}


def _health_port(settings: Settings, *, share_port: bool) -> int:
    """The port for health and metrics. A process that shares the public port has its own, by default any free one."""
    if settings.health_port is not None:
        return settings.health_port
    return 0 if share_port else RECEIVE_HEALTH_PORT
