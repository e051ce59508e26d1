"""A process that sends nothing at a channel's pace; `python -m tests.support.pacing TENANT CHANNEL LANE RATE …`.

It reserves slots as `send` does, waits as long as a claim takes, and notes when it would call. All processes of a
machine share time.monotonic(), so their notes are compared as they are.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared import database
from shared.queue.jobs import Lane
from shared.sending.pacer import Pacer, SlotTooFar
from shared.settings import Settings
from shared.store.rate_limits import Request
from tests.support.processes import ROOT, environ

AT_ONCE = 32  # messages of one channel that a process has in hand: senders.CONCURRENCY and its bulkhead
CLAIM = 0.004  # seconds


@dataclass(frozen=True, slots=True)
class Notes:
    """The slots that were used, and when the call of each would have been made."""

    slots: Sequence[float]
    calls: Sequence[float]


async def reserve_for(
    pool: database.Pool, wanted: Request, seconds: float, *, longest: float = 2.0, at_once: int = AT_ONCE
) -> Notes:
    """Take slots for so many seconds, as one process of its own."""
    pacer, until = Pacer(), time.monotonic() + seconds
    noted: list[tuple[float, float]] = []

    async def send() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(SlotTooFar):
                async with pacer.turn(pool, wanted, longest) as turn:
                    begun = time.monotonic()
                    await asyncio.sleep(CLAIM)
                    pacer.claiming.took(time.monotonic() - begun)
                    noted.append((await turn.slot(longest), time.monotonic()))

    async with asyncio.TaskGroup() as senders:
        for _ in range(at_once):
            senders.create_task(send())
    return Notes([slot for slot, _ in noted], [called for _, called in noted])


async def in_processes(
    settings: Settings, wanted: Request, seconds: float, *, processes: int, at_once: int = AT_ONCE
) -> Notes:
    """Take slots in so many processes, each with a connection pool of its own; what all of them noted."""
    arguments = map(
        str,
        (wanted.tenant_id, wanted.channel_id, wanted.lane, wanted.rate, wanted.bulk_reserve, seconds, at_once),
    )
    command = (sys.executable, "-m", "tests.support.pacing", *arguments)
    started = [
        await asyncio.create_subprocess_exec(
            *command,
            cwd=settings.state_dir,
            env={**os.environ, **environ(settings), "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    said = [json.loads((await process.communicate())[0]) for process in started]
    return Notes(
        [at for one in said for at in one["slots"]],
        [at for one in said for at in one["calls"]],
    )


async def main(
    tenant_id: str, channel_id: str, lane: Lane, rate: str, bulk_reserve: str, seconds: str, at_once: str
) -> None:
    wanted = Request(UUID(tenant_id), UUID(channel_id), lane, float(rate), float(bulk_reserve))
    async with database.make_pool(Settings(), process="test", size=4) as pool:
        notes = await reserve_for(pool, wanted, float(seconds), at_once=int(at_once))
    print(json.dumps({"slots": notes.slots, "calls": notes.calls}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))  # type: ignore[arg-type]  # the lane
