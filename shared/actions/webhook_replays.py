"""Sends deliveries again and samples, each once: what is wanted is written here, and the worker does it.

A replay has the delivery's own id, today's secret, and one attempt. It leaves alone how the webhook's URL does, and so
it works while we have disabled the webhook.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.actions.webhooks import event
from shared.database import Connection, as_worker, new_id
from shared.store.events import record
from shared.store.webhook_deliveries import log, replays, turns
from shared.store.webhook_deliveries.replays import MOST_RANGES, Counted
from shared.store.webhooks import Webhook


class TooManyRanges(Exception):
    """So many ranges of this webhook are under way that there is no room for another."""


async def replay(connection: Connection, webhook: Webhook, log_id: UUID) -> bool:
    """Send a delivery again; whether this webhook has such a one."""
    async with as_worker(connection):  # a tenant's session may not write what is wanted of a delivery
        if not await replays.one(connection, webhook.tenant_id, webhook.id, log_id):
            return False
    await record(connection, event("webhook.replayed", webhook.tenant_id, webhook.id, count=1))
    return True


async def replay_range(
    connection: Connection, webhook: Webhook, since: datetime, until: datetime, *, only_failed: bool
) -> Counted:
    """Send the deliveries of a range of time again; with `only_failed` what failed or was missed.

    The clock marks them, oldest first. Raises TooManyRanges.
    """
    key = (webhook.tenant_id, webhook.id)
    async with as_worker(connection):
        counted = await replays.count(connection, *key, since, until, only_failed=only_failed)
        if counted.found or counted.is_more:
            if await replays.open_ranges(connection, *key) >= MOST_RANGES:
                raise TooManyRanges
            await replays.add_range(connection, *key, since, until, only_failed=only_failed)
    await record(connection, event("webhook.replayed", *key, count=counted.found))
    return counted


async def send_sample(connection: Connection, webhook: Webhook, name: str, body: Mapping[str, Any]) -> UUID:
    """Send this body, a sample of the event `name`, once; returns the id under which the log has it."""
    log_id = new_id()
    async with as_worker(connection):
        await log.add_test(connection, webhook.tenant_id, webhook.id, log_id, name, body)
        await turns.wake(connection, webhook.tenant_id, webhook.id)
    return log_id
