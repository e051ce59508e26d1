"""events → deliveries in `webhook_logs`, each exactly once: the cursor moves in the transaction that writes them.

Several processes may run this loop, one matches: as in the relay, the cursor's row has a lease. The exchange `events`
is no part of it, so nothing is lost where the broker is away.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from shared import database
from shared.database.each_row import skipped
from shared.domain.event_cursor import Place
from shared.queue.jobs import WebhookDue
from shared.queue.worker import Context, Loop
from shared.resilience.backoff import Backoff
from shared.store import event_feed
from shared.store.event_feed import StoredEvent
from shared.store.webhook_deliveries import cursor
from shared.store.webhook_deliveries.cursor import Behind, Next
from workers.webhook.batches import MOST_APART, AlreadyThere, Batch, Taken, locked, match
from workers.webhook.resources import Resources
from workers.webhook.straight import Noted, Straight

EVENTS_AT_ONCE: Final = 500
LOOKED_AT: Final = 2000  # events, to find these
POLL: Final = 1.0  # seconds; NOTIFY is the fast way
OTHERS_WAIT: Final = 1.0  # seconds: where others have had no event for as long, none of them would wait
LOCK_WAIT: Final = "100ms"  # as all events wait meanwhile
LOCKED_WAIT: Final = Backoff(first=1.0, longest=30.0, jitter=0.0)  # of a tenant that holds locks, in its own time

loop: Loop[Resources] = Loop(name="webhook", publishes=(WebhookDue,))


@loop.run
async def match_forever(ctx: Context[Resources]) -> None:
    """Match for as long as this process is the one that does; wait where another one is."""
    connection = await database.connect(ctx.settings, process="webhook matching")
    holder = database.new_id()
    try:
        await connection.execute(f"SET lock_timeout = '{LOCK_WAIT}'")
        await Matching(connection, holder, ctx).run()
    finally:
        connection.terminate()
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                await cursor.leave(ctx.pool, holder)


class _Displaced(Exception):
    """Another process matches by now."""


class Matching:
    """The loop of one process, on a session of its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", holder: UUID, ctx: Context[Resources]) -> None:
        self._connection = connection
        self._holder = holder
        self._ctx = ctx
        self._lease = timedelta(seconds=ctx.settings.webhook_lease / 2)
        self._woken = asyncio.Event()
        self._limit = EVENTS_AT_ONCE
        self._place: Place = (0, 0)
        self._led_at = 0.0
        self._matched_at = -OTHERS_WAIT  # events of those that are not matched apart
        self._apart_at = 0.0  # not before this the next piece of one that is
        self._fell_behind = False  # somebody, in the last step
        self._identity = b""
        self._straight = Straight(ctx)

    async def run(self) -> None:
        await self._connection.add_listener("palomar_events", lambda *_: self._woken.set())
        self._place = await self._become_leader()
        self._led_at = time.monotonic()
        self._identity = (await event_feed.order(self._connection, self._ctx.settings.events_days)).identity
        self._ctx.log.info("matching events with webhooks")
        while await self._step():
            pass
        self._ctx.log.warning("another process matches events with webhooks by now")

    async def _become_leader(self) -> Place:
        while True:
            if (place := await cursor.lead(self._connection, self._holder, self._lease)) is not None:
                return place
            await asyncio.sleep(POLL)

    async def _step(self) -> bool:
        """Match some events, or wait for the next. False: another process does it by now."""
        self._woken.clear()
        if time.monotonic() - self._led_at > self._lease.total_seconds() / 3:
            self._led_at = time.monotonic()
            if (place := await cursor.lead(self._connection, self._holder, self._lease)) is None:
                return False
            self._place = place
        behind = await cursor.behind(self._connection)
        try:
            await self._straight.wait()
            looked_at = LOOKED_AT if self._limit == EVENTS_AT_ONCE else self._limit
            apart = {one.tenant_id for one in behind}
            found = await cursor.after(self._connection, self._place, looked_at, self._limit, apart)
            if not (await self._match(found, apart) if found.events else await self._pass(found)):
                return False
        except Exception as error:
            if database.is_outage(error):
                raise
            if self._limit == 1:
                return await self._step_over(error)
            self._limit = max(1, self._limit // 2)  # until the event that can't be matched is alone in its batch
            return True
        self._limit = min(2 * self._limit, EVENTS_AT_ONCE) if found.is_full else EVENTS_AT_ONCE
        if found.events:
            self._matched_at = time.monotonic()
        wait = await self._catch_up_in_turn([one for one in behind if one.is_due])
        is_busy = found.is_full or self._place != (found.end or self._place) or self._fell_behind
        if wait and not is_busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
        return True

    async def _pass(self, found: Next) -> bool:
        """Move the cursor behind events that nobody wants."""
        if found.end is None:
            return True
        self._place = found.end
        self._fell_behind = False
        return await cursor.move(self._connection, self._holder, self._lease, found.end)

    async def _match(self, found: Next, apart: set[UUID]) -> bool:
        """Match events of all tenants but those that are matched apart, and move the cursor behind them."""
        has_others = found.is_full or len({event.tenant_id for event in found.events}) > 1
        fallen: set[UUID] = set()  # they hold locks
        goes_straight = True
        for _ in range(database.REPEATS):
            before = self._place
            try:
                async with self._noting() as noted, self._connection.transaction():
                    await cursor.lock(self._connection)
                    for tenant_id in fallen:
                        await cursor.fall_behind(self._connection, tenant_id, before)
                    batch = self._batch(found.events, found.end or before, apart | fallen, has_others=has_others)
                    taken = await match(self._connection, batch, self._straight, noted if goes_straight else None)
                    if not await cursor.move(self._connection, self._holder, self._lease, taken.place):
                        raise _Displaced
            except _Displaced:
                return False
            except AlreadyThere:
                goes_straight = False
                continue
            except database.LockTimeout:
                holders = await locked(self._connection, found.events)
                fallen |= holders
                self._ctx.log.warning("matched apart: they hold locks", tenants=[str(one) for one in holders])
                continue
            except asyncpg.ForeignKeyViolationError:  # a webhook was deleted meanwhile
                continue
            self._place, self._led_at = taken.place, time.monotonic()
            self._fell_behind = bool(fallen or taken.fell_behind)
            await self._publish(taken)
            return True
        raise database.LockTimeout("events could not be matched")

    def _batch(self, events: Sequence[StoredEvent], end: Place, apart: set[UUID], *, has_others: bool) -> Batch:
        handoff = timedelta(seconds=self._ctx.settings.handoff_lease)
        return Batch(self._identity, events, end, frozenset(apart), self._ctx.resource.holder, handoff, has_others)

    @asynccontextmanager
    async def _noting(self) -> AsyncIterator[Noted]:
        """What a transaction notes: its attempts begin once it is committed."""
        noted = Noted()
        try:
            yield noted
        except BaseException:
            await self._straight.drop(noted)
            raise
        self._straight.begin(noted)

    async def _publish(self, taken: Taken) -> None:
        self._straight.look(taken.more)
        await self._ctx.publish(
            *(WebhookDue(tenant_id=tenant_id, webhook_id=webhook_id) for tenant_id, webhook_id in taken.due)
        )

    async def _step_over(self, error: Exception) -> bool:
        """Skip the next event, which can't be matched; it stays in its table. Raises the error where there is none."""
        place = await cursor.place_after(self._connection, self._place)
        if place is None:
            raise error
        skipped("webhook event", error, xid=str(place[0]), seq=str(place[1]))
        self._place = place
        return await cursor.move(self._connection, self._holder, self._lease, place)

    async def _catch_up_in_turn(self, due: Sequence[Behind]) -> float:
        """Match some events of the first of these; returns the seconds until it is the next one's turn.

        As long as others have events, it rests for as long as it worked.
        """
        started = time.monotonic()
        if not due or started < self._apart_at:
            return self._apart_at - started if due else POLL
        if not await self._catch_up(due[0]) and len(due) == 1:
            return POLL
        took = min(time.monotonic() - started, POLL)
        self._apart_at = time.monotonic() + (took if started - self._matched_at < OTHERS_WAIT else 0.0)
        return max(0.0, self._apart_at - time.monotonic())

    async def _catch_up(self, one: Behind) -> bool:
        """Match some events of a tenant that are matched apart; returns whether there are more."""
        limit = MOST_APART
        while True:
            try:
                return await self._match_apart(one, limit)
            except (database.LockTimeout, asyncpg.ForeignKeyViolationError):
                wait = timedelta(seconds=LOCKED_WAIT.delay(one.in_vain + 1))
                await cursor.retry_later(self._connection, one.tenant_id, wait)
                return False
            except Exception as error:
                if database.is_outage(error):
                    raise
                if limit == 1:
                    skipped("webhook event", error, tenant=str(one.tenant_id))
                    await self._skip_apart(one)
                    return True
                limit = max(1, limit // 8)

    async def _match_apart(self, one: Behind, limit: int) -> bool:
        events = await cursor.of_tenant(self._connection, one.tenant_id, one.place, self._place, limit)
        async with self._connection.transaction():
            if not await cursor.move(self._connection, self._holder, self._lease, self._place):
                return False  # another process does it by now, as the next step finds out
            if not events:
                await cursor.caught_up(self._connection, one.tenant_id)
                return False
            batch = self._batch(events, events[-1].place, set(), has_others=False)
            taken = await match(self._connection, replace(batch, most=MOST_APART), self._straight, None)
            await cursor.go_on(self._connection, one.tenant_id, taken.place)
        await self._publish(taken)
        return True

    async def _skip_apart(self, one: Behind) -> None:
        place = await cursor.place_of_tenant_after(self._connection, one.tenant_id, one.place)
        if place is not None:
            await cursor.go_on(self._connection, one.tenant_id, place)
