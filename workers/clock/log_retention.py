"""Makes the coming days' partitions of webhooks and events, and drops what is older than its retention."""

from typing import Final

from shared import database
from shared.queue.worker import Context
from shared.store import contact_imports, idempotency, partitions, webhook_log
from shared.store.messages import parked_receipts
from shared.store.webhook_deliveries import retention

PARTITIONS_AHEAD: Final = 7  # days
FORGOTTEN_AT_ONCE: Final = 10_000  # rows a transaction


async def _make_partitions(tx: database.Connection, ctx: Context[None]) -> int:
    return await partitions.make(tx, PARTITIONS_AHEAD)


async def _forget_events(tx: database.Connection, ctx: Context[None]) -> int:
    return await partitions.forget_events(tx, ctx.settings.events_days)


async def _forget_webhooks(tx: database.Connection, ctx: Context[None]) -> int:
    return await webhook_log.forget(tx, ctx.settings.inbound_log_days)


async def retain(ctx: Context[None]) -> None:
    """Make the coming days' partitions and drop the old ones. It waits for no lock for long: it runs again in an
    hour."""
    for work in (_make_partitions, _forget_events, _forget_webhooks):
        try:
            async with ctx.transaction() as tx:
                await partitions.lock_briefly(tx)
                done = await work(tx, ctx)
            if done:
                ctx.log.info("retention", what=work.__name__.strip("_"), partitions=done)
        except database.LockTimeout:
            ctx.log.warning("could not get a lock; next hour again", what=work.__name__.strip("_"))
    # In short transactions apart from the partitions' own, whose locks last as long as their transaction.
    webhooks_days, events_days = ctx.settings.inbound_log_days, ctx.settings.events_days
    for forget, days in (
        (webhook_log.forget_keys, webhooks_days),
        (parked_receipts.forget, webhooks_days),
        (webhook_log.forget_strays, webhooks_days),
        (partitions.forget_stray_events, events_days),
        (idempotency.forget, ctx.settings.idempotency_days),
        (contact_imports.forget, ctx.settings.import_days),
        (retention.forget, ctx.settings.webhook_log_days),
    ):
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE:
            async with ctx.transaction() as tx:
                forgotten = await forget(tx, days, FORGOTTEN_AT_ONCE)
    place: retention.Place | None = retention.BEGINNING
    while place is not None:
        async with ctx.transaction() as tx:
            place = await retention.forget_sequences(tx, place, FORGOTTEN_AT_ONCE)
