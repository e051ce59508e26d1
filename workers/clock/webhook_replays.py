"""Marks the deliveries of ranges that tenants want to have again, a piece of each at a tick.

So a range of a million deliveries holds no lock for long, and no other tenant's range waits for it.
"""

from collections.abc import Sequence
from typing import Final

from shared.database import Connection
from shared.database.each_row import each
from shared.queue.jobs import Job, WebhookDue
from shared.store.webhook_deliveries import replays
from shared.store.webhook_deliveries.replays import Range

RANGES: Final = 20  # at a tick
PIECE: Final = 500  # deliveries of each that are read; a webhook's worker sends fewer in a second


async def mark(connection: Connection) -> Sequence[Job]:
    """Mark a piece of each range whose turn it is; returns the jobs of their webhooks."""
    jobs: list[Job] = []

    async def one(work: Range) -> None:
        if await replays.mark(connection, work, PIECE):
            jobs.append(WebhookDue(tenant_id=work.tenant_id, webhook_id=work.webhook_id))

    await each("webhook replay", connection, await replays.next_ranges(connection, RANGES), one)
    return jobs
