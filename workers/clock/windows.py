"""Records `window.expiring` for each WhatsApp window that closes soon, once, so that a person can still answer in time.

A look goes over the windows that have come near their end lately, which are few. The first look, and later one now and
then, goes over all that are near their end: it finds a message that reached us hours after it was written, and a row
that was locked. A window that has closed meanwhile gets no event.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared import database
from shared.domain import window
from shared.queue.jobs import Job
from shared.queue.worker import Context
from shared.store import expiring_windows
from shared.store.events import Event, record

# In ticks of the clock, a second each by default.
LOOK_EVERY: Final = 10
LATELY: Final = 12 * LOOK_EVERY  # a look may fail, or come late
ALL_EVERY: Final = 30 * LOOK_EVERY


@dataclass
class ExpiringWindows:
    """The clock's task; remembers when it has looked."""

    _look_at: float = 0.0  # by the monotonic clock, as is:
    _all_at: float = 0.0

    async def __call__(self, tx: database.Connection, ctx: Context[None]) -> Sequence[Job]:
        now, tick = time.monotonic(), ctx.settings.clock_tick
        if now < self._look_at:
            return []
        every = now >= self._all_at or now - self._look_at > LATELY * tick / 2
        lately = window.LENGTH if every else timedelta(seconds=LATELY * tick)
        found = await expiring_windows.note(tx, lately, ctx.settings.clock_batch)
        await record(
            tx,
            *(
                Event(
                    "window.expiring",
                    one.tenant_id,
                    one.channel_id,
                    one.conversation_id,
                    detail={"closes_at": one.closes_at.isoformat()},
                )
                for one in found
            ),
        )
        if len(found) < ctx.settings.clock_batch:  # else the next tick goes on
            self._look_at = now + LOOK_EVERY * tick
            if every:
                self._all_at = now + ALL_EVERY * tick
        return []
