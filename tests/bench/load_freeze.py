"""Freezes the recipients of a campaign, page by page as the campaign worker does, in a process of its own.

DATABASE_URL; arguments: tenant, campaign, file for the result.
"""

import json
import resource
import sys
import time
from pathlib import Path
from uuid import UUID

import uvloop

from shared import database
from shared.actions import campaign_audience
from shared.settings import Settings
from shared.store import channels
from shared.store.campaigns import records

SETTLED = 5  # pages, after which the process has all the memory that it needs


async def main(tenant_id: UUID, campaign_id: UUID) -> dict[str, float]:
    """Seconds in all and of the longest page, and the process's peak memory after a few pages and at the end."""
    connection = await database.connect(Settings(), process="bench")
    try:
        campaign = await records.get(connection, tenant_id, campaign_id)
        assert campaign is not None, "the row has inserted it"
        channel = await channels.get(connection, tenant_id, campaign.values.channel_id)
        assert channel is not None, "it is the demo's"
        began, longest, pages, settled, done = time.monotonic(), 0.0, 0, 0, False
        while not done:
            page_began = time.monotonic()
            async with connection.transaction():
                await records.get(connection, tenant_id, campaign_id, lock=True)
                done = await campaign_audience.freeze_page(connection, campaign, channel)
            longest, pages = max(longest, time.monotonic() - page_began), pages + 1
            settled = _peak() if pages == SETTLED else settled
        took = time.monotonic() - began
    finally:
        await connection.close()
    return {"seconds": took, "longest": longest, "pages": pages, "settled": settled or _peak(), "peak": _peak()}


def _peak() -> int:
    """Bytes; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    tenant, campaign, result = sys.argv[1:]
    Path(result).write_text(json.dumps(uvloop.run(main(UUID(tenant), UUID(campaign)))))
