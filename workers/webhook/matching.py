"""events → deliveries in `webhook_logs`, each exactly once: the cursor moves in the transaction that writes them.

Several processes may run this loop, one matches: as in the relay, the cursor's row has a lease. The exchange `events`
is no part of it, so nothing is lost where the broker is away.
"""

import asyncio
import contextlib
import time
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
from shared.store.webhook_deliveries.cursor import Behind
from workers.webhook.batches import Batch, Taken, locked, match
from workers.webhook.resources import Resources

EVENTS_AT_ONCE: Final = 500
POLL: Final = 1.0  # seconds; NOTIFY is the fast way
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
        self._identity = b""

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
            events = await cursor.after(self._connection, self._place, self._limit)
            if events and not await self._match(events, {one.tenant_id for one in behind}):
                return False
        except Exception as error:
            if database.is_outage(error):
                raise
            if self._limit == 1:
                return await self._step_over(error)
            self._limit = max(1, self._limit // 2)  # until the event that can't be matched is alone in its batch
            return True
        is_full = len(events) >= self._limit
        self._limit = min(2 * self._limit, EVENTS_AT_ONCE) if is_full else EVENTS_AT_ONCE
        apart = next((one for one in behind if one.is_due), None)
        is_busy = apart is not None and await self._catch_up(apart)
        if not (is_full or is_busy):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._woken.wait()
        return True

    async def _match(self, events: list[StoredEvent], apart: set[UUID]) -> bool:
        """Match events of all tenants but those that are matched apart, and move the cursor behind them."""
        fallen: set[UUID] = set()  # they hold locks
        for _ in range(database.REPEATS):
            before = self._place
            try:
                async with self._connection.transaction():
                    await cursor.lock(self._connection)
                    for tenant_id in fallen:
                        await cursor.fall_behind(self._connection, tenant_id, before)
                    taken = await match(self._connection, self._batch(events, apart | fallen))
                    if not await cursor.move(self._connection, self._holder, self._lease, taken.place):
                        return False
            except database.LockTimeout:
                found = await locked(self._connection, events)
                fallen |= found
                self._ctx.log.warning("matched apart: they hold locks", tenants=[str(one) for one in found])
                continue
            except asyncpg.ForeignKeyViolationError:  # a webhook was deleted meanwhile
                continue
            self._place, self._led_at = taken.place, time.monotonic()
            await self._publish(taken)
            return True
        raise database.LockTimeout("events could not be matched")

    def _batch(self, events: list[StoredEvent], apart: set[UUID]) -> Batch:
        handoff = timedelta(seconds=self._ctx.settings.handoff_lease)
        return Batch(self._identity, events, frozenset(apart), handoff)

    async def _publish(self, taken: Taken) -> None:
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

    async def _catch_up(self, one: Behind) -> bool:
        """Match some events of a tenant that are matched apart; returns whether there are more."""
        limit = EVENTS_AT_ONCE
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
            taken = await match(self._connection, self._batch(events, set()))
            await cursor.go_on(self._connection, one.tenant_id, taken.place)
        await self._publish(taken)
        return True

    async def _skip_apart(self, one: Behind) -> None:
        place = await cursor.place_of_tenant_after(self._connection, one.tenant_id, one.place)
        if place is not None:
            await cursor.go_on(self._connection, one.tenant_id, place)
