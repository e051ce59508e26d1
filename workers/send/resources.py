"""What the sends of one process share: the providers' clients, the rates, the bulkheads, and the batches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from shared.queue.worker import Context
from shared.sending.senders import Senders
from shared.settings import Settings
from workers.send.batches import Batches
from workers.send.channel_cache import ChannelCache


class Resources(Senders):
    """The senders of a process, and what its context lets them do together."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._batches: Batches | None = None
        self.channels = ChannelCache()

    def batches(self, ctx: "Ctx") -> Batches:
        """The batches of the process that has this context."""
        if self._batches is None:
            lease = timedelta(seconds=ctx.settings.send_timeout + ctx.settings.send_lease_margin)
            self._batches = Batches(ctx.pool, ctx.locks, lease)
        return self._batches


Ctx = Context[Resources]


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """This process's resources; closes them at the end. Raises shared.crypto.CryptoError where no key is configured."""
    resources = Resources(settings)
    try:
        yield resources
    finally:
        await resources.close()
