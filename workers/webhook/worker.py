"""WebhookDue → what is due of a webhook is signed, posted to its URL and logged.

The health's row is the promise: `due_at`. While a process holds a webhook, nobody else delivers to it.
"""

from datetime import timedelta
from typing import Final

from shared.queue import topology
from shared.queue.jobs import WebhookDue
from shared.queue.worker import Context, Worker
from shared.resilience.bulkhead import BulkheadFull
from shared.store.webhook_deliveries import turns
from workers.webhook import matching
from workers.webhook.desk import Desk
from workers.webhook.resources import TURNS, Resources, open_resources
from workers.webhook.turn import Delivering

PUT_OFF: Final = timedelta(seconds=1)  # where the tenant has its share of turns already

worker: Worker[WebhookDue, Resources] = Worker(
    name="webhook",
    queues=(topology.WEBHOOK,),
    consumes=(WebhookDue,),
    publishes=(),  # WebhookDue: into its own queue, behind the other webhooks
    concurrency=TURNS,
    open=open_resources,
    beside=matching.loop,
)


@worker.handle
async def take_turn(due: WebhookDue, ctx: Context[Resources]) -> None:
    """Give the webhook its turn, unless it has one, here or in another process."""
    key = (due.tenant_id, due.webhook_id)
    resources = ctx.resource
    if key in resources.held:
        resources.held[key] = True
        if (turn := resources.open.get(key)) is not None:
            turn.look()
        return
    if resources.desk is None:
        resources.desk = Desk(ctx)
    try:
        with resources.turns.acquire(due.tenant_id):
            resources.held[key] = True
            try:
                while resources.held[key] and not ctx.stopping.is_set():
                    resources.held[key] = False
                    claimed = await resources.desk.claim(key)
                    if claimed is not None:
                        resources.open[key] = Delivering(claimed, resources.desk, ctx)
                        await resources.open[key].run()
            finally:
                resources.open.pop(key, None)
                del resources.held[key]
    except BulkheadFull:
        await turns.put_off(ctx.pool, key, PUT_OFF)


@worker.postpone
async def postpone(due: WebhookDue, ctx: Context[Resources], wait: timedelta | None) -> None:
    await turns.put_off(ctx.pool, (due.tenant_id, due.webhook_id), wait)
