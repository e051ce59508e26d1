"""Deletes the stored copies of files that no row names any more, beside the clock's other work.

However a file's row is deleted, a trigger makes its copy due (0015_media).
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
LEASE: Final = timedelta(minutes=10)  # of the copies taken at once
DELETE_TIMEOUT: Final = 5.0  # seconds for one copy, so that all of them end within the lease


async def sweep_forever(ctx: Context[Any]) -> None:
    """Delete unused copies every few ticks, until cancelled. After an outage or an error the next round tries again."""
    while True:
        try:
            await sweep(ctx)
        except Exception as error:
            if not database.is_outage(error):
                ctx.log.exception("copies of files could not be deleted; again in a moment")
        await asyncio.sleep(EVERY * ctx.settings.clock_tick)


async def sweep(ctx: Context[Any]) -> int:
    """Delete every copy that is due and that no row names; returns how many."""
    total, checked = 0, AT_ONCE
    while checked == AT_ONCE:
        unused, checked = await media.mark_unused(ctx.pool, LEASE, AT_ONCE)
        if unused:
            blobs = Blobs.of(ctx.settings)
            for copy in unused:
                async with isolated("blob", tenant=str(copy.tenant_id)):
                    if await _deleted(ctx, blobs, copy):
                        await media.forget_copy(ctx.pool, copy)
                        total += 1
    if total:
        ctx.log.info("copies of files deleted", count=total)
    return total


async def _deleted(ctx: Context[Any], blobs: Blobs, copy: media.UnusedCopy) -> bool:
    try:
        async with asyncio.timeout(DELETE_TIMEOUT):
            await blobs.delete(copy.key)
    except (*StoreError, TimeoutError) as error:
        ctx.log.warning("a copy of a file could not be deleted", key=copy.key, error=type(error).__name__)
        return False
    return True
