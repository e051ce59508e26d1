"""Faults of the way in: a disk without room, and bodies that stall."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from tests.faults.customers import Customers
from tests.faults.staging import System
from tests.support.crowd import crowd
from tests.support.small_disk import SmallDisk

DISK: Final = 8 * 1024 * 1024  # bytes, for the spool
AWAY: Final = 6.0  # seconds without a broker, the disk being full
STALLED: Final = ("stalled", "200", "70000")
FLOW: Final = 8  # messages answered, at least


async def disk_full(system: System, customers: Customers, disk: SmallDisk) -> str:
    """Not a byte left while the broker is away: webhooks are refused, and posted again until they are taken."""
    system.kill_broker()
    await asyncio.sleep(AWAY / 2)
    refused = customers.refused
    disk.fill()
    await asyncio.sleep(AWAY / 2)
    refused = customers.refused - refused
    assert refused > 0, "the spool's disk was full, the broker away, and every webhook was taken"
    await system.start_broker()  # what was spooled has to leave a disk that is still full
    await customers.answered_more(FLOW)
    disk.free()
    return f"disk-full, {refused} posts refused meanwhile"


async def stalled_body(system: System, customers: Customers) -> str:
    """Half bodies at the very endpoint that the customers' webhooks come to."""
    refused = customers.refused
    url = urlsplit(f"{system.settings.public_url}{system.provider.path(system.stage.ours)}")
    async with crowd(f"{url.scheme}://{url.netloc}", url.path, "application/x-www-form-urlencoded", *STALLED):
        await customers.answered_more(FLOW)
    return f"stalled-body, {customers.refused - refused} posts of customers refused meanwhile"
