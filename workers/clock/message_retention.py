"""Deletes tenants' old messages, a few at a time, beside the clock's other work."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from shared import database
from shared.database.each_row import isolated
from shared.queue.worker import Context
from shared.store.messages import retention

EVERY: Final = 3600.0  # seconds
AFTER_A_FAILURE: Final = 60.0
CONVERSATIONS_AT_ONCE: Final = 200
MESSAGES_AT_ONCE: Final = 1000  # a transaction
BREATH: Final = 0.05  # seconds between two transactions, which leave the disk to others


async def prune_forever(ctx: Context[Any]) -> None:
    """Prune each hour, until cancelled. After an outage or an error the next round tries again."""
    while True:
        pause = EVERY
        try:
            await prune(ctx)
        except Exception as error:
            pause = AFTER_A_FAILURE
            if not database.is_outage(error):
                ctx.log.exception("pruning failed; it goes on in a minute")
        await asyncio.sleep(pause)


async def prune(ctx: Context[Any]) -> int:
    """Delete messages that are older than their tenant's policy; returns how many.

    Never one as young as the raw webhooks that are stored: a replay of its webhook would store and answer it again.
    """
    total = 0
    for tenant_id, days in await retention.policies(ctx.pool):
        async with isolated("pruning", tenant=str(tenant_id)):
            before = datetime.now(UTC) - timedelta(days=max(days, ctx.settings.inbound_log_days + 1))
            pruned = await _prune_tenant(ctx, tenant_id, before)
            if pruned:
                ctx.log.info("messages pruned", tenant=str(tenant_id), count=pruned)
            total += pruned
    return total


async def _prune_tenant(ctx: Context[Any], tenant_id: UUID, before: datetime) -> int:
    total, after = 0, retention.FIRST
    while some := await retention.conversations(ctx.pool, tenant_id, after, before, CONVERSATIONS_AT_ONCE):
        pruned = MESSAGES_AT_ONCE
        while pruned == MESSAGES_AT_ONCE:
            pruned = await retention.prune(ctx.pool, tenant_id, some, before, MESSAGES_AT_ONCE)
            total += pruned
            await asyncio.sleep(BREATH)
        after = some[-1]
    return total
