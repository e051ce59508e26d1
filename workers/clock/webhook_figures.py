"""Measures how the deliveries to tenants' webhooks do, for the metrics, beside the clock's other work."""

import asyncio
from typing import Any, Final

from shared import database
from shared.process import metrics
from shared.queue.worker import Context
from shared.store.webhook_deliveries import figures

EVERY: Final = 15.0  # seconds


async def measure_forever(ctx: Context[Any]) -> None:
    """Measure each quarter of a minute, until cancelled. After an outage or an error the next round tries again."""
    while True:
        try:
            await measure(ctx)
        except Exception as error:
            if not database.is_outage(error):
                ctx.log.exception("webhooks could not be measured; the next round tries again")
        await asyncio.sleep(EVERY)


async def measure(ctx: Context[Any]) -> None:
    """Set the gauges to what the database says now."""
    found = await figures.lateness(ctx.pool)
    metrics.WEBHOOKS_PAUSED.set(found.paused)
    metrics.WEBHOOKS_DISABLED.set(found.disabled)
    metrics.WEBHOOK_OLDEST_DUE.set(found.oldest_due)
