"""What a process's turns ask of the database, done together for all of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from shared import database
from shared.database.together import Together
from shared.domain.event_json import moment
from shared.queue.jobs import WebhookDue
from shared.queue.worker import Context
from shared.store.webhook_deliveries import turns
from shared.store.webhook_deliveries.facts import Key
from shared.store.webhook_deliveries.turns import Attempt, Room, Turn
from workers.webhook import recording
from workers.webhook.recording import Recorded, Result
from workers.webhook.resources import Resources

SOON: Final = 0.004  # seconds in which claims and takings come together
LATER: Final = 0.02  # and what ends
AT_ONCE: Final = 200
RECORDED_AT_ONCE: Final = 500
APART: Final = 2  # transactions that wait for a tenant's locks, at once
TRIES_APART: Final = 5
OUTAGE_PAUSE: Final = 1.0  # seconds
LOCK_WAIT: Final = 2.0  # seconds until a webhook that is locked is left to its lease


@dataclass(frozen=True, slots=True)
class Letting:
    """A webhook whose turn is over; nothing is done for it before this time."""

    key: Key
    not_before: datetime | None = None


class Desk:
    """One of a process."""

    def __init__(self, ctx: Context[Resources]) -> None:
        self._ctx = ctx
        self._lease = timedelta(seconds=ctx.settings.webhook_timeout + ctx.settings.webhook_lease)
        self._apart = asyncio.Semaphore(APART)
        self.claim: Together[Key, Turn | None] = Together(self._claim, wait=SOON, most=AT_ONCE)
        self.take: Together[Room, list[Attempt]] = Together(self._take, wait=SOON, most=AT_ONCE)
        self._release_together: Together[Letting, bool] = Together(self._release, wait=SOON, most=AT_ONCE)
        self._record_together: Together[Result, Recorded | None] = Together(
            self._record, wait=LATER, most=RECORDED_AT_ONCE
        )

    async def record(self, result: Result) -> Recorded | None:
        """Record a result, whatever it takes: through outages, and beside a tenant's locks. None: it could not be.

        Then the attempt has no end in the log, and the delivery is due again after the lease.
        """
        while True:
            try:
                recorded = await self._record_together(result)
                return recorded if recorded is not None else await self._record_apart(result)
            except Exception as error:
                if not database.is_outage(error):
                    raise
                await asyncio.sleep(OUTAGE_PAUSE)

    async def _claim(self, keys: Sequence[Key]) -> list[Turn | None]:
        found = await turns.claim(self._ctx.pool, keys, self._ctx.resource.holder, self._lease)
        return [found.get(key) for key in keys]

    async def _take(self, rooms: Sequence[Room]) -> list[list[Attempt]]:
        at = moment(datetime.now(UTC))
        taken = await turns.take(self._ctx.pool, rooms, self._lease, at)
        return [taken[room.tenant_id, room.webhook_id] for room in rooms]

    async def release(self, letting: Letting) -> None:
        """Let go of a webhook, and put it behind the others in the queue where it has something to do now.

        Where its tenant's session locks it for long, it is free when the lease is over.
        """
        if await self._release_together(letting):
            return
        try:
            async with self._apart, asyncio.timeout(LOCK_WAIT):
                await self._publish(await self._let_go([letting], wait=True))
        except (TimeoutError, database.LockTimeout):
            self._ctx.log.warning("webhook held until its lease ends", webhook=str(letting.key[1]))

    async def _release(self, lettings: Sequence[Letting]) -> list[bool]:
        released = await database.repeat(partial(self._let_go, lettings, wait=False))
        await self._publish(released)
        return [letting.key in released for letting in lettings]

    async def _publish(self, released: Mapping[Key, bool]) -> None:
        due = [key for key, is_due in released.items() if is_due]
        self._ctx.resource.idle &= set(due)
        await self._ctx.publish(*(WebhookDue(tenant_id=key[0], webhook_id=key[1]) for key in due))

    async def _let_go(self, lettings: Sequence[Letting], *, wait: bool) -> dict[Key, bool]:
        handoff = timedelta(seconds=self._ctx.settings.handoff_lease)
        async with self._ctx.transaction() as tx:
            return await turns.release(
                tx,
                {letting.key: letting.not_before for letting in lettings},
                self._ctx.resource.holder,
                handoff,
                wait_for_locks=wait,
            )

    async def _record(self, results: Sequence[Result]) -> list[Recorded | None]:
        async def once() -> list[Recorded | None]:
            async with self._ctx.transaction() as tx:
                return await recording.record(tx, results, wait=False)

        try:
            recorded = await database.repeat(once)
        except Exception as error:
            if database.is_outage(error):
                raise
            self._ctx.log.warning("results recorded one by one", error=type(error).__name__)
            return [None] * len(results)
        recording.count([result for result, one in zip(results, recorded, strict=True) if one is not None])
        return recorded

    async def _record_apart(self, result: Result) -> Recorded | None:
        """Record a result alone, as rows of its tenant are locked, or something of it can't be stored."""

        async def once() -> Recorded | None:
            async with self._ctx.transaction() as tx:
                return (await recording.record(tx, [result], wait=True))[0]

        for attempt in range(TRIES_APART):
            try:
                async with self._apart:
                    recorded = await database.repeat(once)
            except Exception as error:
                if database.is_outage(error):
                    raise
                self._ctx.log.warning(
                    "result not recorded", error=type(error).__name__, webhook=str(result.attempt.webhook_id)
                )
                await asyncio.sleep(2**attempt)
            else:
                if recorded is not None:
                    recording.count([result])
                return recorded
        return None
