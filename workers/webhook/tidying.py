"""What a turn does beside its deliveries, for webhooks that are disabled or deleted and for stuck conversations."""

import time
from typing import Final

from shared.queue.worker import Context
from shared.store.webhook_deliveries import outcomes
from shared.store.webhook_deliveries.facts import Key
from workers.webhook.resources import Resources

SWEPT: Final = 1000  # deliveries of a disabled webhook that become missed at once
STUCK: Final = 500  # conversations


async def sweep(ctx: Context[Resources], webhook: Key, until: float) -> None:
    """What is pending of a webhook that is disabled or deleted is missed. `until`: a time.monotonic()."""
    while not ctx.stopping.is_set() and time.monotonic() < until:
        async with ctx.transaction() as tx:
            if await outcomes.miss(tx, webhook, SWEPT) < SWEPT:
                return


async def free_stuck(ctx: Context[Resources], webhook: Key) -> None:
    """Free what waits for a delivery that its tenant has deleted."""
    talks = await outcomes.waiting(ctx.pool, *webhook, STUCK)
    if talks:
        async with ctx.transaction() as tx:
            await outcomes.lock_talks(tx, talks)
            await outcomes.free_next(tx, talks)
