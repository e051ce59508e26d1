"""Hands out the slots of a channel's rate to the sends of one process: the moments at which they may call the provider.

The provider counts calls in any second. Slots are exact, on one line for all processes; a call leaves at its slot or up
to IN_TIME later, else it needs another slot. So no second has more calls than the slots of a second and IN_TIME.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from shared.database import Pool
from shared.process import metrics
from shared.queue.jobs import Lane
from shared.store import rate_limits
from shared.store.rate_limits import Request

# 5 % of a second is what a second may have too much. Of these 50 ms the network and the provider's own clock get 10.
IN_TIME: Final = 0.04
# A campaign reserves its next slots only so shortly before they begin: they are what a reply has to wait for. It is
# enough for the claim, which takes up to 20 ms, and for a machine that is late by as much.
AHEAD: Final = 0.05
MOST_LEAD: Final = 0.05  # seconds that a message is claimed before its call: a crash in between leaves it `unknown`
MOST_NOTICE: Final = 1.0  # seconds: a database that is slower for long makes every slot late
SHORTEST_WAIT: Final = 0.002  # seconds, for a campaign's slots that are not near enough yet


class SlotTooFar(Exception):
    """The channel's next slot is further away than the caller waits."""

    def __init__(self, wait: float) -> None:
        """`wait`: seconds until it may be free."""
        super().__init__(f"the channel's rate is used up for {wait:.2f} s")
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Slot:
    """The moment of a call, in seconds of time.monotonic()."""

    at: float

    async def reached(self, before: float = 0.0) -> bool:
        """Wait until so many seconds before the slot. False: it has passed, and a call now would be too late."""
        if (wait := self.at - before - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        return time.monotonic() <= self.at + IN_TIME


class UsualTime:
    """The time that a step usually takes, in seconds: six of seven runs take less. One slow run hardly moves it."""

    def __init__(self, first: float) -> None:
        self.seconds = first

    def took(self, seconds: float) -> None:
        self.seconds = min(MOST_NOTICE, self.seconds * (1.2 if seconds > self.seconds else 0.97))


class DatabaseClock:
    """The database's clock as seen from this process's monotonic one, however long its answers take.

    Each answer bounds what lies between the two clocks. The narrowest bounds hold, until the clocks drift out of them.
    """

    def __init__(self) -> None:
        self._offset: float | None = None

    def answered(self, now: float, asked_at: float, received_at: float) -> None:
        """The database's clock showed `now` at some moment between the two of ours."""
        least, most = now - received_at, now - asked_at
        known = (least + most) / 2 if self._offset is None else self._offset
        self._offset = min(max(known, least), most)

    def here(self, moment: float) -> float:
        """The monotonic time of a moment of the database's clock, once it has answered."""
        assert self._offset is not None
        return moment - self._offset


@dataclass(slots=True)
class _Queue:
    """The sends of one lane of a channel that wait for a slot here, and the slots that were reserved for them.

    A message that is claimed already asks without `turn`, so it is the next one but one at most.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    reserved: deque[float] = field(default_factory=deque)


class Pacer:
    """This process's slots, of all channels."""

    def __init__(self) -> None:
        self._queues: dict[tuple[UUID, Lane], _Queue] = {}
        self._clock = DatabaseClock()
        self._reserving = UsualTime(0.005)
        self.claiming = UsualTime(0.01)

    async def next_slot(self, pool: Pool, wanted: Request, longest: float, *, claimed: bool = False) -> Slot:
        """Reserve the next slot of this lane, and return when it is time to claim the message, or to call.

        A reply reserves its slot however far off it is; a message of a campaign waits here until one is near. Raises
        SlotTooFar where the slot is more than `longest` seconds away.
        """
        deadline = time.monotonic() + longest
        while True:
            slot = await self._reserve(pool, wanted, deadline, claimed=claimed)
            if await slot.reached(before=0.0 if claimed else min(self.claiming.seconds, MOST_LEAD)):
                return slot
            metrics.SLOTS_LOST.labels(wanted.lane).inc()

    async def _reserve(self, pool: Pool, wanted: Request, deadline: float, *, claimed: bool) -> Slot:
        queue = self._queues.setdefault((wanted.channel_id, wanted.lane), _Queue())
        queue.waiting += 1
        try:
            if claimed:
                async with queue.asking:
                    return await self._next(pool, queue, wanted, deadline, 0.0)
            async with queue.turn, queue.asking:
                return await self._next(pool, queue, wanted, deadline, self.claiming.seconds)
        finally:
            queue.waiting -= 1

    async def _next(self, pool: Pool, queue: _Queue, wanted: Request, deadline: float, needs: float) -> Slot:
        while True:
            while queue.reserved:
                at = queue.reserved.popleft()
                if at + IN_TIME >= time.monotonic() + min(needs, IN_TIME):
                    return Slot(at)
                metrics.SLOTS_LOST.labels(wanted.lane).inc()
            notice = self._reserving.seconds + needs
            asked_at = time.monotonic()
            ahead = deadline - asked_at
            if wanted.lane == "bulk":
                ahead = min(ahead, max(AHEAD, notice))
            found = await rate_limits.reserve(
                pool, replace(wanted, slots=queue.waiting, ahead=max(ahead, 0.0), notice=notice)
            )
            received_at = time.monotonic()
            self._reserving.took(received_at - asked_at)
            self._clock.answered(found.now, asked_at, received_at)
            begins = self._clock.here(found.begins)
            queue.reserved.extend(begins + number * found.spacing for number in range(found.slots))
            if found.slots:
                continue
            wait = begins - received_at
            if wanted.lane != "bulk" or begins > deadline or received_at > deadline:
                raise SlotTooFar(max(wait, 0.0))
            await asyncio.sleep(max(wait - AHEAD, SHORTEST_WAIT))
