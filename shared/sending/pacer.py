"""Hands out the slots of a channel's rate to the sends of one process: the moments at which they may call the provider.

The provider counts calls in any second. Slots are exact, on one line for all processes; a call leaves at its slot or up
to IN_TIME later, else it needs another slot. So no second has more calls than the slots of a second and IN_TIME.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from shared.database import Pool
from shared.domain.campaigns import pace
from shared.process import metrics
from shared.queue.jobs import Lane
from shared.store import rate_limits
from shared.store.rate_limits import Request

# 5 % of a second is what a second may have too much. Of these 50 ms the network and the provider's own clock get 15, or
# a reply that goes ahead of a campaign's slots.
IN_TIME: Final = 0.035
# A claim begins so long before its slot that it usually ends this many seconds after it: the call then follows the
# commit at once, and a crash in between makes few messages `unknown`. It leaves a slow claim the rest of IN_TIME.
CLAIMED_AFTER: Final = IN_TIME / 4
# A campaign reserves its next slots only so shortly before they begin: they are what a reply has to wait for. It is
# enough for the claim, which takes up to 20 ms, and for a machine that is late by as much.
AHEAD: Final = 0.05
# Seconds of the rate that are reserved at once, at least one slot. A database that takes longer than that to answer
# would slow the channel down, so there it is what leaves until the next answer.
SLICE: Final = 0.04
MOST_SLICE: Final = 0.4
# Seconds that a message is claimed before its call at most: a crash in between leaves it `unknown`. Where claims are
# slow, as on a machine that is full, a shorter lead loses the slots: with 0.05 the fault run lost more than it used.
MOST_LEAD: Final = 0.5
MOST_NOTICE: Final = 1.0  # seconds: a database that is slower for long makes every slot late
MOST_MISSED: Final = 0.05  # seconds; what a claim is expected to take at most, because one claim took so long
SHORTEST_WAIT: Final = 0.002  # seconds, for a campaign's slots that are not near enough yet


class SlotTooFar(Exception):
    """The channel's next slot is further away than the caller waits."""

    def __init__(self, wait: float) -> None:
        """`wait`: seconds until it may be free."""
        super().__init__(f"the channel's rate is used up for {wait:.2f} s")
        self.wait = wait


class UsualTime:
    """The time that a step usually takes, in seconds: six of seven runs take less. One slow run hardly moves it."""

    def __init__(self, first: float) -> None:
        self.seconds = first

    def took(self, seconds: float) -> None:
        self.seconds = min(MOST_NOTICE, self.seconds * (1.2 if seconds > self.seconds else 0.97))

    def missed(self, seconds: float) -> None:
        """A run took so long that it missed its slot. The next ones may take as long, as on a machine that is full.

        One that a lock held up says little of the others, whose slots would all be later: so no more than MOST_MISSED.
        """
        self.seconds = max(self.seconds, min(seconds, MOST_MISSED))


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
class Queue:
    """The sends of one lane of a channel in this process: those that wait, those whose turn it is, and their slots.

    Turns are given in the order of slots, and a call takes the earliest slot that is left. So where one claim is slow,
    a message that was claimed in the meantime uses its slot.
    """

    first: asyncio.Lock = field(default_factory=asyncio.Lock)  # of those that wait for a turn
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)  # slots, in the database
    waiting: int = 0
    turns: int = 0  # given, and without their call yet
    slots: deque[float] = field(default_factory=deque)  # of time.monotonic(), and not taken by a call yet

    def add(self, slots: Iterable[float]) -> None:
        """Add slots in their order: a reply that goes ahead has an earlier one than those reserved before."""
        self.slots = deque(sorted([*self.slots, *slots]))

    def drop_missed(self, lane: Lane) -> None:
        """Remove the slots in which no call is in time any more."""
        now = time.monotonic()
        while self.slots and self.slots[0] + IN_TIME < now:
            self.slots.popleft()
            metrics.SLOTS_LOST.labels(lane).inc()


class Turn:
    """A message's turn: it is time to claim it, and then `slot` waits for the moment of its call."""

    def __init__(self, pacer: "Pacer", queue: Queue, pool: Pool, wanted: Request) -> None:
        self._pacer, self._queue, self._pool, self._wanted = pacer, queue, pool, wanted
        self._is_open = True  # no slot is taken yet

    async def slot(self, longest: float) -> float:
        """Wait for the next slot that is left, and return its time.monotonic(); a call that is made now is in time.

        Raises SlotTooFar where there is none within `longest` seconds.
        """
        queue, deadline = self._queue, time.monotonic() + longest
        while True:
            queue.drop_missed(self._wanted.lane)
            if not queue.slots:
                await self._more_slots(deadline)
                continue
            if queue.slots[0] > deadline:
                raise SlotTooFar(queue.slots[0] - time.monotonic())
            at = queue.slots.popleft()
            self.close()
            if (wait := at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if time.monotonic() <= at + IN_TIME:
                return at
            metrics.SLOTS_LOST.labels(self._wanted.lane).inc()
            self._open()

    async def _more_slots(self, deadline: float) -> None:
        """Ask for slots, before those that wait for a turn. Raises SlotTooFar at the deadline."""
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)), self._queue.reserving:
                if not self._queue.slots:
                    await self._pacer.ask(self._pool, self._queue, self._wanted, deadline, 0.0)
        except TimeoutError:
            raise SlotTooFar(0.0) from None

    def _open(self) -> None:
        self._queue.turns += 1
        self._is_open = True

    def close(self) -> None:
        """Leave the slots to the others: this turn has taken one, or needs none."""
        if self._is_open:
            self._queue.turns -= 1
            self._is_open = False


class Pacer:
    """This process's slots, of all channels."""

    def __init__(self) -> None:
        self._queues: dict[tuple[UUID, Lane], Queue] = {}
        self._clock = DatabaseClock()
        self._reserving = UsualTime(0.005)
        self.claiming = UsualTime(0.01)

    @asynccontextmanager
    async def turn(self, pool: Pool, wanted: Request, longest: float) -> AsyncIterator[Turn]:
        """A message's turn at this lane of the channel, as soon as it is time to claim it.

        A reply reserves its slot however far off it is; a message of a campaign waits here until one is near. Raises
        SlotTooFar where the slot is more than `longest` seconds away.
        """
        queue = self._queues.setdefault((wanted.channel_id, wanted.lane), Queue())
        at = await self._admitted(pool, queue, wanted, time.monotonic() + longest)
        turn = Turn(self, queue, pool, wanted)
        try:
            lead = max(min(self.claiming.seconds, MOST_LEAD) - CLAIMED_AFTER, 0.0)
            if (wait := at - lead - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            yield turn
        finally:
            turn.close()

    async def _admitted(self, pool: Pool, queue: Queue, wanted: Request, deadline: float) -> float:
        """Wait for a slot that no earlier turn needs, and give this message its turn; returns the slot's time."""
        queue.waiting += 1
        try:
            async with queue.first:
                while True:
                    queue.drop_missed(wanted.lane)
                    if len(queue.slots) > queue.turns:
                        queue.turns += 1
                        return queue.slots[queue.turns - 1]
                    async with queue.reserving:
                        if len(queue.slots) <= queue.turns:
                            await self.ask(pool, queue, wanted, deadline, self.claiming.seconds)
        finally:
            queue.waiting -= 1

    async def ask(self, pool: Pool, queue: Queue, wanted: Request, deadline: float, needs: float) -> None:
        """Reserve slots for all that wait here, or wait a moment where a campaign's are not near yet.

        `needs`: seconds from a slot's turn to its call. Raises SlotTooFar where the next one is after the deadline.
        """
        usual = self._reserving.seconds + needs  # from now to the call
        asked_at = time.monotonic()
        ahead = deadline - asked_at
        if wanted.lane == "bulk":
            ahead = min(ahead, max(AHEAD, usual))
        request = replace(
            wanted,
            slots=queue.waiting + max(queue.turns - len(queue.slots), 0),
            slice=min(max(SLICE, 2 * self._reserving.seconds), MOST_SLICE),
            ahead=max(ahead, 0.0),
            notice=max(usual - IN_TIME / 2, 0.0),  # so that no reply waits for its slot where the claim is quick
            ahead_every=0.0 if wanted.lane == "bulk" else pace.ahead_every(wanted.rate, wanted.bulk_reserve),
        )
        found = await rate_limits.reserve(pool, request)
        received_at = time.monotonic()
        self._reserving.took(received_at - asked_at)
        self._clock.answered(found.now, asked_at, received_at)
        begins = self._clock.here(found.begins)
        queue.add(begins + number * found.spacing for number in range(found.slots))
        if found.slots:
            return
        wait = begins - received_at
        if wanted.lane != "bulk" or begins > deadline or received_at > deadline:
            raise SlotTooFar(max(wait, 0.0))
        await asyncio.sleep(max(wait - AHEAD, SHORTEST_WAIT))
