"""Stores a webhook whose content PostgreSQL refuses: its raw bytes alone, which can be replayed."""

from shared import database
from shared.process import metrics
from shared.queue.jobs import WebhookReceived
from shared.queue.worker import Context
from shared.store import webhook_log
from shared.store.webhook_log import Logged


async def persist_raw(webhook: WebhookReceived, error: Exception, ctx: Context[None]) -> None:
    """Store only the raw bytes of a webhook whose content PostgreSQL refuses: it can be replayed once that is
    mended."""
    reason = (
        f"{type(error).__name__}: PostgreSQL does not take it" if database.is_postgres(error) else str(error)[:2000]
    )
    logged = Logged(webhook, "unparsed", reason)
    async with ctx.transaction() as tx:
        if await webhook_log.remember(tx, [webhook]):
            await webhook_log.log(tx, [logged])
        else:
            await webhook_log.set_outcome(tx, webhook.inbound_id, logged.outcome, logged.error)
    metrics.WEBHOOKS_PARSED.labels(webhook.provider, "error").inc()
    ctx.log.error("webhook stored raw only", inbound_id=webhook.inbound_id, error=type(error).__name__)
