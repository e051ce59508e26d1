"""Deletes the copies of files that nobody names any more, beside whatever else the process does.

Whoever deletes a file's row, by whatever way, leaves its copy due; see the trigger of 0015_media.
"""

import asyncio
from datetime import timedelta
from typing import Any, Final

from shared import database
from shared.database.each_row import isolated
from shared.media.blob_store import Blobs, StoreError
from shared.queue.worker import Context
from shared.store import media

EVERY: Final = 5.0  # ticks of the clock
AT_ONCE: Final = 100
LEASE: Final = timedelta(minutes=10)  # of those taken at once
DELETE_TIMEOUT: Final = 5.0  # seconds of one, so that all of them end within the lease


async def sweep_forever(ctx: Context[Any]) -> None:
    """Sweep every few ticks, until cancelled. An outage or an error is for the next round."""
    while True:
        try:
            await sweep(ctx)
        except Exception as error:
            if not database.is_outage(error):
                ctx.log.exception("copies of files could not be deleted; again in a moment")
        await asyncio.sleep(EVERY * ctx.settings.clock_tick)


async def sweep(ctx: Context[Any]) -> int:
    """Delete every copy that is due and that nobody names; returns how many went."""
    total, looked = 0, AT_ONCE
    while looked == AT_ONCE:
        going, looked = await media.mark(ctx.pool, LEASE, AT_ONCE)
        if going:
            blobs = Blobs.of(ctx.settings)
            for copy in going:
                async with isolated("blob", tenant=str(copy.tenant_id)):
                    if await _deleted(ctx, blobs, copy):
                        await media.gone(ctx.pool, copy)
                        total += 1
    if total:
        ctx.log.info("copies of files deleted", count=total)
    return total


async def _deleted(ctx: Context[Any], blobs: Blobs, copy: media.Going) -> bool:
    try:
        async with asyncio.timeout(DELETE_TIMEOUT):
            await blobs.delete(copy.key)
    except (*StoreError, TimeoutError) as error:
        ctx.log.warning("a copy of a file could not be deleted", key=copy.key, error=type(error).__name__)
        return False
    return True
