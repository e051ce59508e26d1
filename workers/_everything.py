"""Runs all of Palomar in one process, for a small machine: every worker, and what ingress serves.

The parts keep their ports: PORT for webhooks, PALOMAR_API_PORT for the API, and PALOMAR_HEALTH_PORT for the health and
metrics of all. The workers share one pool. A worker that crashes starts again by itself; where the process as a whole
ends, its supervisor starts it again, and no webhook, message or event is lost, as with many processes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ingress.api import process as management
from ingress.receive_process import NAME as RECEIVE
from ingress.receive_process import receive
from shared.crypto import KeyRing, KeysInvalid
from shared.http.connections import raise_descriptor_limit
from shared.process import health
from shared.settings import RECEIVE_HEALTH_PORT, Settings
from workers._process import Process

NAME: Final = "all"
WORKERS: Final = "workers"
POOL: Final = 12  # connections of all workers together, unless the setting is more: most of them wait for others


def prepared(settings: Settings) -> Callable[[asyncio.Event], Awaitable[None]]:
    """What runs everything until its event is set. Raises ValueError where the keys can't be read."""
    try:
        keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    except KeysInvalid as error:
        raise ValueError(str(error)) from None
    raise_descriptor_limit()

    async def run(stop: asyncio.Event) -> None:
        await _run(settings, keys, stop)

    return run


async def _run(settings: Settings, keys: KeyRing, stop: asyncio.Event) -> None:
    """Raises what one of the parts raised, once the others have finished what they had in hand."""
    parts = health.Parts(RECEIVE, management.NAME, WORKERS)
    port = RECEIVE_HEALTH_PORT if settings.health_port is None else settings.health_port
    workers = Process(settings, [NAME], serve_health=parts.part(WORKERS), pool_size=max(POOL, settings.database_pool))
    async with parts.serving(settings.host, port):
        running = [
            asyncio.create_task(receive(settings, keys, stop, serve_health=parts.part(RECEIVE))),
            asyncio.create_task(management.serve(settings, keys, stop, serve_health=parts.part(management.NAME))),
            asyncio.create_task(workers.run(stop)),
        ]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.wait(running)
    for part in running:
        part.result()
