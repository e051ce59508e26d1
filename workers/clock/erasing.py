"""Erases the contacts that tenants have asked to be erased, one after the other, beside the clock's other work."""

import asyncio
from datetime import timedelta
from typing import Any, Final

from shared import database
from shared.actions import erasure as actions
from shared.queue.worker import Context
from shared.store import erasure, erasure_requests

EVERY: Final = 2.0  # ticks of the clock
# Of one contact. A search of a large tenant may take longer; then another clock does the same once more.
LEASE: Final = timedelta(minutes=15)


async def erase_forever(ctx: Context[Any]) -> None:
    """Erase every few ticks, until cancelled. After an outage or an error the request is due again after its lease."""
    while True:
        try:
            while await erase_next(ctx):
                pass
        except Exception as error:
            if not database.is_outage(error):
                ctx.log.exception("a contact could not be erased; again in some minutes")
        await asyncio.sleep(EVERY * ctx.settings.clock_tick)


async def erase_next(ctx: Context[Any]) -> bool:
    """Erase a contact that is due; False where none is."""
    due = await erasure_requests.take(ctx.pool, LEASE)
    if due is None:
        return False
    tenant_id, contact_id = due
    removed = await actions.erase(ctx.pool, await erasure.person(ctx.pool, tenant_id, contact_id))
    ctx.log.info("contact erased", tenant=str(tenant_id), contact=str(contact_id), rows=sum(removed.values()))
    return True
