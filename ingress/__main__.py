"""python -m ingress receive: receives webhooks until SIGTERM. python -m ingress api: serves the management API."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial

import uvloop

from ingress.api import process as management
from ingress.endpoint_directory import Directory
from ingress.receive.app import Receiver
from ingress.receive.durability import DurableQueue
from ingress.receive.spool import Spool
from shared.crypto import KeyRing, KeysInvalid
from shared.http.connections import BoundedServer, raise_descriptor_limit
from shared.http.sources import Sources
from shared.process import health, log, memory
from shared.queue.publisher import Publisher
from shared.settings import RECEIVE_HEALTH_PORT, RECEIVE_PORT, Settings, SettingsInvalid, load

NAME = "receive"
_PORTS = {
    NAME: "PORT (webhooks) or PALOMAR_HEALTH_PORT (health and metrics)",
    management.NAME: "PALOMAR_API_PORT (clients) or PORT (health and metrics)",
}
BROKER_WAIT = 3.0  # seconds a start waits for the broker, so that the first webhooks need no spool


async def receive(settings: Settings, keys: KeyRing, stop: asyncio.Event, *, share_port: bool = False) -> None:
    """Receive webhooks until `stop` is set, then finish those in hand. Raises OSError where the port is taken.

    With `share_port` several processes serve one port, and the kernel spreads connections over them.
    """
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
            health.serving(
                health.health(lambda: _missing(directory, queue), lambda: _warnings(directory, queue)),
                settings.host,
                _health_port(settings, share_port=share_port),
            )
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


async def _main(name: str, settings: Settings, keys: KeyRing, share_port: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serve = management.serve if name == management.NAME else receive
    await serve(settings, keys, stop, share_port=share_port)


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 after an orderly stop, 2 where the arguments or settings can't work, 1 where the port is taken."""
    parser = argparse.ArgumentParser("python -m ingress", description=__doc__)
    parser.add_argument(
        "name", choices=[NAME, management.NAME], help="receive: the providers' webhooks; api: the management API"
    )
    parser.add_argument("--share-port", action="store_true", help="several processes serve the same port")
    chosen = parser.parse_args(arguments)
    try:
        settings = load()
        log.configure(chosen.name, settings.log_level)
        keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    except (SettingsInvalid, KeysInvalid, ValueError) as error:
        print(f"python -m ingress: {error}", file=sys.stderr)
        return 2
    raise_descriptor_limit()
    memory.return_large_blocks()
    memory.tune_collector()
    try:
        uvloop.run(_main(chosen.name, settings, keys, chosen.share_port))
    except OSError as error:
        print(
            f"python -m ingress: {error}. Set {_PORTS[chosen.name]} to a free one, or start every process with "
            "--share-port.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
