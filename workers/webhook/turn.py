"""A webhook's turn: its due deliveries are posted, as many at once as its health, its rate and the process allow."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.crypto import CryptoError
from shared.domain.webhooks.health import OPENS_AT
from shared.domain.webhooks.signatures import Signer
from shared.process.tasks import cancel, is_set_within
from shared.queue.worker import Context
from shared.store.webhook_deliveries import turns
from shared.store.webhook_deliveries.outcomes import LockedHealth
from shared.store.webhook_deliveries.turns import Attempt, Room, Turn
from workers.webhook.desk import Desk, Letting
from workers.webhook.posting import post
from workers.webhook.recording import Result
from workers.webhook.resources import Resources
from workers.webhook.tidying import free_stuck, sweep

TURN: Final = 2.0  # seconds that one webhook has before the next ones in the queue
NOT_READY: Final = timedelta(seconds=5)  # until the next look at a webhook whose secret can't be opened yet
IDLE: Final = timedelta(seconds=1)  # until the next look at one with something due that can't be taken
TURN_OF_MATCHING: Final = 5.0  # where matching began it: nobody waits for its place
LINGERS: Final = 0.3  # seconds that a turn which matching began waits for what matching hands it next
FULL: Final = 0.05  # seconds until the next look for a place


class Delivering:
    """One turn, from the claim to the release.

    Beside what it takes, it makes the attempts that matching has noted already: see straight.py. For these, room is
    reserved before matching's commit.
    """

    def __init__(self, turn: Turn, desk: Desk, ctx: Context[Resources], *, is_of_matching: bool = False) -> None:
        """`is_of_matching`: matching holds the webhook, which has nothing due but what is handed."""
        self._turn = turn
        self._desk = desk
        self._ctx = ctx
        self._resources = ctx.resource
        self._pace = ctx.resource.paces.of(turn.key, turn.health.failures)
        self._signer: Signer | None = None
        self._claimed_at = time.monotonic()
        self._is_of_matching = is_of_matching
        self._longest = min(TURN_OF_MATCHING, ctx.settings.webhook_lease / 2) if is_of_matching else TURN
        self._ends_at = self._claimed_at + self._longest
        self._lingers = LINGERS if is_of_matching else 0.0
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._deliveries_under_way = 0
        self._reserved = 0
        self._more_deliveries = turn.is_live and not is_of_matching
        self._more_replays = not turn.is_deleted and not is_of_matching
        self._is_closed = False
        self._took = 0

    async def run(self) -> None:
        """Deliver until the turn is over or nothing is due, then let go of the webhook."""
        try:
            not_before = await self._deliver()
        except BaseException:
            self._is_closed = True
            await cancel(self._under_way)
            raise
        await self._desk.release(Letting(self._turn.key, not_before))

    async def _deliver(self) -> datetime | None:
        """Returns the time before which nothing more is to be done."""
        if self._turn.is_deleted or self._turn.health.disabled_at is not None:
            self._more_deliveries = False
            await sweep(self._ctx, self._turn.key, self._claimed_at + TURN)
        if not self._can_sign():
            self._is_closed = True
            return self._now() + NOT_READY
        while True:
            self._changed.clear()
            wait = None if self._has_nothing_to_take() else await self._take()
            if wait is None and self._is_at_rest():
                if self._is_over() or (not await is_set_within(self._changed, self._lingers) and self._is_at_rest()):
                    break
            else:
                await is_set_within(self._changed, wait)
            while self._failed:
                self._failed.pop().result()
        self._is_closed = True
        if self._turn.in_order:
            await free_stuck(self._ctx, self._turn.key)
        if self._took:
            self._resources.idle.discard(self._turn.key)
        elif self._turn.key in self._resources.idle:
            return self._now() + IDLE
        else:
            self._resources.idle.add(self._turn.key)
        return None

    def _now(self) -> datetime:
        """PostgreSQL's clock, by which due times are."""
        return self._turn.now + timedelta(seconds=time.monotonic() - self._claimed_at)

    def _is_over(self) -> bool:
        return self._ctx.stopping.is_set() or time.monotonic() > self._ends_at

    def _is_at_rest(self) -> bool:
        return not (self._under_way or self._reserved or self._changed.is_set())

    def _has_nothing_to_take(self) -> bool:
        return self._is_over() or not (self._more_deliveries or self._more_replays)

    # -- what matching hands over ----------------------------------------------------------------------------------

    def room(self, updated_at: datetime) -> int:
        """How many more attempts matching may note for this turn, of a webhook that was changed last at this time.

        Where it was changed since it is held the turn ends, so that the next one has its new URL and secret.
        """
        if updated_at != self._turn.updated_at:
            self._ends_at = 0.0
            self._changed.set()
        if self._is_closed or self._more_deliveries or self._is_over():
            return 0
        if self._signer is None and not self._can_sign():
            return 0
        if self._turn.health.failures or not self._turn.health.may_try(self._now()):
            return 0
        places = self._resources.places.free_for(self._turn.tenant_id, proven=self._pace.is_proven)
        return max(0, min(self._pace.room(len(self._under_way) + self._reserved), places))

    def reserve(self, attempts: int) -> None:
        """Keep room for so many attempts, until `hand` or `give_back`."""
        self._reserved += attempts
        self._pace.use(attempts)
        self._resources.places.enter(self._turn.tenant_id, attempts)

    def give_back(self, attempts: int) -> None:
        """Nothing comes of attempts for which room was reserved."""
        self._reserved -= attempts
        self._pace.use(-attempts)
        for _ in range(attempts):
            self._resources.places.leave(self._turn.tenant_id)
        self._changed.set()

    def hand(self, attempt: Attempt, ended: Callable[[], None]) -> None:
        """Make an attempt for which room was reserved, and which is noted and committed. `ended` is called once.

        Where the turn has failed meanwhile, the attempt has no end, and the delivery is due again after its lease.
        """
        if self._is_closed:
            self.give_back(1)
            ended()
            return
        self._reserved -= 1
        self._took += 1
        self._start(attempt, ended)

    @property
    def ends_soon(self) -> bool:
        """Whether matching, which began the turn, should hold the webhook for longer."""
        left = self._ends_at - time.monotonic()
        return self._is_of_matching and not self._is_closed and 0 < left < self._longest / 2

    def renew(self) -> None:
        """Matching holds the webhook anew: the turn goes on, with the secrets that are valid by now."""
        if not self._is_over() and self._can_sign():
            self._ends_at = time.monotonic() + self._longest

    def look(self) -> None:
        """Something became due that was not handed over."""
        self._more_deliveries = self._turn.is_live
        self._more_replays = not self._turn.is_deleted
        self._changed.set()

    # -- taking ----------------------------------------------------------------------------------------------------

    async def _take(self) -> float | None:
        """Start attempts of what is due, as far as there is room. Returns seconds until there may be room again; None:
        nothing more is to be taken, or the end of an attempt decides."""
        room = min(self._pace.room(len(self._under_way) + self._reserved), turns.MOST)
        deliveries = self._deliveries(room)
        replays = self._replays(room)
        if not (deliveries or replays):
            return self._pace.wait if self._has_rate_left() else None
        free = self._resources.places.free_for(self._turn.tenant_id, proven=self._pace.is_proven)
        if not free:
            return FULL
        deliveries, replays = min(deliveries, free), min(replays, free)
        taken = await self._desk.take(Room(*self._turn.key, deliveries, replays))
        ours = [attempt for attempt in taken if attempt.kind == "delivery"]
        if deliveries and len(ours) < deliveries:
            self._more_deliveries = False
        if replays and len(taken) - len(ours) < replays:
            self._more_replays = False
        self._took += len(taken)
        self._pace.use(len(taken))
        self._resources.places.enter(self._turn.tenant_id, len(taken))
        for attempt in taken:
            self._start(attempt)
        return None if self._under_way else 0.0

    def _start(self, attempt: Attempt, ended: Callable[[], None] | None = None) -> None:
        self._deliveries_under_way += attempt.kind == "delivery"
        task = asyncio.create_task(self._attempt(attempt, ended))
        self._under_way.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._failed.append(task)
        elif self._under_way and self._has_nothing_to_take():
            return  # the turn waits for the last one
        self._changed.set()

    def _deliveries(self, room: int) -> int:
        health = self._turn.health
        if not self._more_deliveries or not health.may_try(self._now()):
            self._more_deliveries = False
            return 0
        if health.is_probed:
            return 1 if room > 0 and not self._deliveries_under_way else 0
        return max(0, room)

    def _replays(self, room: int) -> int:
        until = self._turn.replay_open_until
        if not self._more_replays or (until is not None and until > self._now()):
            self._more_replays = False
            return 0
        if self._turn.replay_failures >= OPENS_AT:
            return 1 if not self._under_way else 0
        return max(0, min(room, 1 if self._turn.is_live else room))

    def _has_rate_left(self) -> bool:
        """Whether only the rate keeps something from being taken."""
        return (
            (self._more_deliveries or self._more_replays)
            and len(self._under_way) < self._pace.at_once
            and self._pace.allowance() < 1
        )

    # -- one attempt -----------------------------------------------------------------------------------------------

    async def _attempt(self, attempt: Attempt, ended: Callable[[], None] | None) -> None:
        try:
            result = await self._post(attempt)
            if result.answer.error == "timeout":
                self._pace.timed_out()
            else:
                self._pace.answered(result.ms / 1000)
            recorded = await self._desk.record(result)
        finally:
            if ended is not None:
                ended()
            self._resources.places.leave(attempt.tenant_id)
            self._deliveries_under_way -= attempt.kind == "delivery"
        if recorded is None:
            self._more_deliveries = self._more_replays = False
            return
        if attempt.sequence is not None:
            self._more_deliveries = self._turn.is_live  # the next one of its conversation may be free
        if attempt.kind == "delivery":
            self._pace.ended(result.succeeded)
            if recorded.recovered:
                self._pace.begin_slowly()
        health = recorded.health
        if health != LockedHealth(self._turn.health, self._turn.replay_failures, self._turn.replay_open_until):
            self._turn = replace(
                self._turn,
                health=health.health,
                replay_failures=health.replay_failures,
                replay_open_until=health.replay_open_until,
            )

    async def _post(self, attempt: Attempt) -> Result:
        assert self._signer is not None
        return await post(self._resources.way, self._turn.url, self._signer, attempt)

    def _can_sign(self) -> bool:
        """Whether what signs could be opened. Where it can't, no key is configured for it, and nothing is sent."""
        if self._turn.awaits_secret:
            return False
        try:
            self._signer = self._resources.signers.of(self._turn.keys, self._now())
        except (CryptoError, ValueError) as error:
            self._ctx.log.error("webhook waits: its secret can't be opened", webhook=str(self._turn.webhook_id),
                                error=str(error))  # fmt: skip
            return False
        return True
