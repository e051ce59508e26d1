"""A webhook's turn: its due deliveries are posted, as many at once as its health, its rate and the process allow."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.crypto import CryptoError
from shared.domain.webhooks.health import OPENS_AT
from shared.domain.webhooks.signatures import Signer
from shared.process.tasks import cancel
from shared.queue.worker import Context
from shared.store.webhook_deliveries import outcomes, turns
from shared.store.webhook_deliveries.turns import Attempt, Room, Turn
from workers.webhook.desk import Desk, Letting
from workers.webhook.recording import Result
from workers.webhook.resources import Answer, Resources

TURN: Final = 2.0  # seconds that one webhook has before the next ones in the queue
SWEPT: Final = 1000  # deliveries of a disabled webhook that become missed at once
NOT_READY: Final = timedelta(seconds=5)  # until the next look at a webhook whose secret can't be opened yet
IDLE: Final = timedelta(seconds=1)  # until the next look at one with something due that can't be taken
FULL: Final = 0.05  # seconds until the next look for a place
STUCK: Final = 500  # conversations


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The answer to a body that is not sent."""

    status: int | None = None
    body: bytes = b""
    retry_after: float | None = None
    error: str | None = "too_large"
    sent_again: float | None = None


class Delivering:
    """One turn, from the claim to the release."""

    def __init__(self, turn: Turn, desk: Desk, ctx: Context[Resources]) -> None:
        self._turn = turn
        self._desk = desk
        self._ctx = ctx
        self._resources = ctx.resource
        self._pace = ctx.resource.paces.of(turn.key, turn.health.failures)
        self._signer: Signer | None = None
        self._claimed_at = time.monotonic()
        self._under_way: set[asyncio.Task[None]] = set()
        self._deliveries_under_way = 0
        self._more_deliveries = turn.is_live
        self._more_replays = not turn.is_deleted
        self._took = 0

    async def run(self) -> None:
        """Deliver until the turn is over or nothing is due, then let go of the webhook."""
        try:
            not_before = await self._deliver()
        except BaseException:
            await cancel(self._under_way)
            raise
        await self._desk.release(Letting(self._turn.key, not_before))

    async def _deliver(self) -> datetime | None:
        """Returns the time before which nothing more is to be done."""
        if self._turn.is_deleted or self._turn.health.disabled_at is not None:
            await self._sweep()
        if self._turn.awaits_secret or not self._open_keys():
            return self._now() + NOT_READY
        while True:
            wait = None if self._is_over() else await self._take()
            if not self._under_way and wait is None:
                break
            if self._under_way:
                done, _ = await asyncio.wait(self._under_way, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            else:
                await asyncio.sleep(wait or 0)
        if self._turn.in_order:
            await self._free_stuck()
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
        return (
            self._ctx.stopping.is_set()
            or time.monotonic() - self._claimed_at > TURN
            or not (self._more_deliveries or self._more_replays)
        )

    # -- taking ----------------------------------------------------------------------------------------------------

    async def _take(self) -> float | None:
        """Start attempts of what is due, as far as there is room. Returns seconds until there may be room again; None:
        nothing more is to be taken, or the end of an attempt decides."""
        room = min(self._pace.room(len(self._under_way)), turns.MOST)
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
            self._deliveries_under_way += attempt.kind == "delivery"
            task = asyncio.create_task(self._attempt(attempt))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return None if self._under_way else 0.0

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

    async def _attempt(self, attempt: Attempt) -> None:
        try:
            result = await self._post(attempt)
            if result.answer.error == "timeout":
                self._pace.timed_out()
            else:
                self._pace.answered(result.ms / 1000)
            recorded = await self._desk.record(result)
        finally:
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
        self._turn = replace(
            self._turn,
            health=recorded.health.health,
            replay_failures=recorded.health.replay_failures,
            replay_open_until=recorded.health.replay_open_until,
        )

    async def _post(self, attempt: Attempt) -> Result:
        started_at, began = datetime.now(UTC), time.monotonic()
        answer: Answer
        if attempt.body is None:
            answer = TooLarge()
        else:
            assert self._signer is not None
            body = attempt.body.encode()
            headers = self._headers(attempt, int(started_at.timestamp()), body)
            answer = await self._resources.way.post(self._turn.url, body, headers)
        took = time.monotonic() - began
        return Result(attempt, answer, started_at, started_at + timedelta(seconds=took), round(took * 1000))

    def _headers(self, attempt: Attempt, timestamp: int, body: bytes) -> Mapping[str, str]:
        assert self._signer is not None
        return {
            **self._signer.headers(str(attempt.delivery_id), timestamp, body),
            "Content-Type": "application/json",
            "User-Agent": "Palomar",
        }

    def _open_keys(self) -> bool:
        """Whether what signs could be opened. Where it can't, no key is configured for it, and nothing is sent."""
        try:
            self._signer = self._resources.signers.of(self._turn.keys, self._now())
        except CryptoError as error:
            self._ctx.log.error("webhook waits: its secret can't be opened", webhook=str(self._turn.webhook_id),
                                error=str(error))  # fmt: skip
            return False
        return True

    # -- beside the deliveries -------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """What is pending of a webhook that is disabled or deleted is missed."""
        self._more_deliveries = False
        while not self._ctx.stopping.is_set() and time.monotonic() - self._claimed_at < TURN:
            async with self._ctx.transaction() as tx:
                if await outcomes.miss(tx, self._turn.key, SWEPT) < SWEPT:
                    return

    async def _free_stuck(self) -> None:
        """Free what waits for a delivery that its tenant has deleted."""
        talks = await outcomes.waiting(self._ctx.pool, *self._turn.key, STUCK)
        if talks:
            async with self._ctx.transaction() as tx:
                await outcomes.lock_talks(tx, talks)
                await outcomes.free_next(tx, talks)
