"""The API's process: opens its pools and ports, and serves until it is to stop."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from ingress.api.app import Api, Transport
from ingress.api.caller import Authenticator
from ingress.api.cors import Cors
from ingress.api.declaration import registry
from ingress.api.execute import Executor
from ingress.api.exports import Exports
from ingress.api.faults import ApiServer
from ingress.api.file_links import FILES
from ingress.api.files import Files
from ingress.api.front import Front
from ingress.api.live.door import LiveDoor
from ingress.api.live.engine import Live
from ingress.api.reference import transport as reference
from ingress.api.rest import Rest
from ingress.api.rest_paths import Routes
from ingress.api.trpc.transport import Trpc
from ingress.api.uploads import Uploads
from shared.crypto import KeyRing
from shared.database import ApiPool, DatabaseWatch, make_pool
from shared.http.bodies import Bodies
from shared.http.bounds import Bounds, Limits
from shared.http.sources import Sources
from shared.media.blob_store import Blobs
from shared.process import health, log
from shared.queue.connection import BrokerAway, PublishFailed
from shared.queue.jobs import Job
from shared.queue.publisher import Publisher
from shared.settings import Settings

NAME = "api"
LONGEST_LINE = 64 * 1024  # bytes: tRPC writes a batch's inputs into the first line of a GET
HINT_WAIT = 0.5  # seconds that an answer waits for the broker: its rows are committed, and due all the same
KEYS_POOL = 2  # connections: looking up keys, which takes a millisecond
OPERATORS_POOL = 4  # connections: calls that span tenants, some of which take seconds


async def serve(
    settings: Settings,
    keys: KeyRing,
    stop: asyncio.Event,
    *,
    share_port: bool = False,
    serve_health: health.Serve | None = None,
) -> None:
    """Serve until `stop` is set, then finish the calls in hand. Raises OSError where a port is taken.

    `serve_health` is where it says how it is, its PORT unless given.
    """
    serve_health = serve_health or health.at_port(settings.host, settings.port or 0)
    logger = log.get_logger("api")
    async with AsyncExitStack() as stack:
        publisher = Publisher(
            settings.amqp_url.get_secret_value(), NAME, timeout=settings.publish_timeout, delays=settings.retry_delays
        )
        await publisher.start()
        stack.push_async_callback(publisher.close)
        operators = make_pool(settings, process=NAME, size=OPERATORS_POOL, lock_wait=settings.api_lock_wait)
        await stack.enter_async_context(operators)
        lookups = make_pool(settings, process=NAME, size=KEYS_POOL, lock_wait=settings.api_lock_wait)
        await stack.enter_async_context(lookups)
        watch = DatabaseWatch(lookups)
        stack.push_async_callback(watch.close)
        watch.lost()  # until it has answered once
        tenants = await stack.enter_async_context(
            ApiPool(
                settings,
                process=NAME,
                size=settings.api_pool,
                lock_wait=settings.api_lock_wait,
                patience=settings.api_patience,
                statement_timeout=settings.api_statement_timeout,
            )
        )

        async def publish(*jobs: Job) -> None:
            try:
                await publisher.publish(*jobs, timeout=HINT_WAIT)
            except (BrokerAway, PublishFailed) as error:  # the clock publishes them again
                logger.warning("jobs not published", count=len(jobs), error=type(error).__name__)

        live = Live(settings)
        live.hub.start()
        stack.push_async_callback(live.hub.close)
        authenticator = Authenticator(
            lookups, patience=settings.api_patience, quota=settings.api_rate_limit, window=settings.api_rate_window
        )
        executor = Executor(
            settings,
            keys,
            authenticator,
            tenants=tenants,
            operators=operators,
            publish=publish,
            live=live,
            lost=watch.lost,
        )
        bounds = Bounds(Limits.of(settings.api_bytes, settings.api_body_limit))
        sources = Sources(settings.trusted_proxies)
        front = Front(executor, Bodies(bounds, sources), sources, settings)
        api, door = make_api(front, settings, stop)

        def missing() -> dict[str, str]:
            reasons = {"database": watch.unready_reason, "events": live.hub.unready_reason}
            return {part: reason for part, reason in reasons.items() if reason is not None}

        health_port = await stack.enter_async_context(serve_health(missing, dict))
        port = await stack.enter_async_context(
            health.serving(
                api.answer,
                settings.host,
                settings.api_port,
                reuse_port=share_port,
                longest_line=LONGEST_LINE,
                kind=partial(ApiServer, waiting=settings.waiting_connections, sources=sources),
            )
        )
        logger.info("serving", host=settings.host, port=port, health_port=health_port)
        await stop.wait()
        logger.info("stopping")
        await door.close()
    logger.info("stopped")


def make_api(front: Front, settings: Settings, stop: asyncio.Event) -> tuple[Api, LiveDoor]:
    """All transports at their places, and the one that is closed before a stop. A new one is a line here.

    `stop` ends what streams.
    """
    every = registry().values()
    rest = Rest(front, Routes(every), Exports(front, every), Uploads(front, settings, stop))
    live = LiveDoor(front, rest, settings)
    mounts: dict[str, Transport] = {
        "v1": rest,
        "v1/live": live,
        FILES: Files(front.executor, Blobs.of(settings)),
        "trpc": Trpc(front, registry(), stop),
        **dict.fromkeys(reference.PATHS, reference.Reference()),
    }
    return Api(mounts, Cors(settings.api_cors_origins), anywhere_else=rest), live
