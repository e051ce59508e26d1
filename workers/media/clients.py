"""The clients of one process for fetching and storing files, and their limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.crypto import KeyRing
from shared.domain.media import Limits
from shared.media.blob_store import Blobs
from shared.media.download import Fetcher
from shared.resilience.bulkhead import Bulkhead
from shared.settings import Settings

CONCURRENCY = 16  # most of them wait for the provider's server
SHARE = CONCURRENCY // 4  # of these, for one channel
WEBHOOKS_AT_ONCE = 2  # in memory as a whole, for files that came in them: a mail may have 30 MB


@dataclass(frozen=True, slots=True)
class Clients:
    """This process's clients for fetching and storing files, and their limits."""

    fetcher: Fetcher
    blobs: Blobs
    keys: KeyRing
    bulkhead: Bulkhead
    webhooks: asyncio.Semaphore


@asynccontextmanager
async def open_clients(settings: Settings) -> AsyncIterator[Clients]:
    keys = KeyRing.parse(settings.secret_keys.get_secret_value())
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with Fetcher(
        settings.trusted_origins, Limits.of(settings), settings.https_proxy.get_secret_value() or None
    ) as fetcher:
        yield Clients(fetcher, Blobs.of(settings), keys, Bulkhead(SHARE), asyncio.Semaphore(WEBHOOKS_AT_ONCE))
