"""The engines of one process, and what they share: places for those that wait, read receipts, replies beside."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.bot import open_engines
from shared.bot.base import Engine
from shared.resilience.bulkhead import Bulkhead
from shared.settings import Settings
from workers.reply.aside import Aside
from workers.reply.read_receipts import ReadReceipts, open_read_receipts

CONCURRENCY = 32  # most of them wait for a model
SHARE = CONCURRENCY // 4  # of these, for one channel whose engine waits for another server
LOOP = "loop"  # the outcome of a reply that is not made, for the metric


@dataclass(frozen=True, slots=True)
class Engines:
    """This process's engines by their name in a channel's settings, the places of those that wait, read receipts, and
    the replies that wait beside the batches."""

    by_name: Mapping[str, Engine]
    bulkhead: Bulkhead
    read_receipts: ReadReceipts
    aside: Aside


@asynccontextmanager
async def open_resource(settings: Settings) -> AsyncIterator[Engines]:
    async with open_engines(settings) as by_name, open_read_receipts(settings) as read_receipts:
        aside = Aside()
        try:
            yield Engines(by_name, Bulkhead(SHARE), read_receipts, aside)
        finally:
            await aside.close()
