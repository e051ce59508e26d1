"""Publishes the table `events` to the exchange `events`, in commit order without gaps. Several may run, one is active.

Only rows older than every running transaction are read, ordered by (transaction, sequence): a row that commits late is
never behind the cursor. The cursor moves after the broker has confirmed, so an event may be published twice, but never
lost.

The active relay holds the cursor by a lease in its row, which no tenant's role may change. A relay that stood still
longer than its lease finds that out when it moves the cursor, and stands by.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from shared import database
from shared.database.each_row import skipped
from shared.process import metrics
from shared.queue.jobs import EventHappened
from shared.queue.worker import Context, Loop
from shared.store import events
from workers.relay.lag import LAG
from workers.relay.publishing import publish

worker: Loop[None] = Loop(name="relay", publishes=(EventHappened,))


@worker.run
async def relay(ctx: Context[None]) -> None:
    connection = await database.connect(ctx.settings, process="relay")
    holder = database.new_id()
    try:
        woken = asyncio.Event()
        await connection.add_listener("palomar_events", lambda *_: woken.set())
        metrics.RELAY_ACTIVE.set(0)
        await _relay(connection, holder, woken, ctx)
    finally:
        metrics.RELAY_ACTIVE.set(0)
        connection.terminate()
        await _leave(holder, ctx)


async def _step_over(
    connection: database.Connection, holder: UUID, lease: timedelta, xid: int, seq: int, error: Exception
) -> tuple[int, int] | None:
    """Skip the next event, which can't be read; it stays in its table. Returns its place, None where another relay is
    active by now. Raises the error where there is no next event: then no row caused it."""
    place = await events.place_after(connection, xid, seq)
    if place is None:
        raise error
    skipped("event", error, xid=str(place[0]), seq=str(place[1]))
    return place if await events.move_cursor(connection, holder, lease, *place) else None


async def _relay(connection: database.Connection, holder: UUID, woken: asyncio.Event, ctx: Context[None]) -> None:
    """Publish for as long as this relay is the active one; return where another one has become it."""
    lease = timedelta(seconds=ctx.settings.relay_lease)
    xid, seq = await _become_leader(connection, holder, lease, ctx)
    led_at = time.monotonic()
    metrics.RELAY_ACTIVE.set(1)
    ctx.log.info("relay active")
    limit = ctx.settings.relay_batch
    lag_at = -ctx.settings.relay_poll
    while True:
        woken.clear()
        if time.monotonic() - led_at > ctx.settings.relay_lease / 3:
            led_at = time.monotonic()
            if (cursor := await events.lead(connection, holder, lease)) is None:
                break
            xid, seq = cursor
        try:
            batch = await events.after(connection, xid, seq, limit)
        except Exception as error:
            if database.is_outage(error) or database.is_postgres(error):
                raise
            if limit == 1:
                if (place := await _step_over(connection, holder, lease, xid, seq, error)) is None:
                    break
                xid, seq = place
            limit = max(1, limit // 2)  # until the event that can't be read is alone in its batch
            continue
        if batch:
            LAG.measured((datetime.now(UTC) - batch[0].occurred_at).total_seconds())
            await publish(batch, ctx)
            led_at = time.monotonic()
            if not await events.move_cursor(connection, holder, lease, batch[-1].xid, batch[-1].seq):
                break
            xid, seq = batch[-1].xid, batch[-1].seq
            metrics.RELAYED.inc(len(batch))
        if len(batch) == limit:
            limit = min(2 * limit, ctx.settings.relay_batch)
        else:
            limit = ctx.settings.relay_batch
            if time.monotonic() - lag_at >= ctx.settings.relay_poll:  # not at every commit that wakes the relay
                LAG.measured(await events.lag(connection))
                lag_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ctx.settings.relay_poll):
                    await woken.wait()
    ctx.log.warning("another relay is active by now")


async def _become_leader(
    connection: database.Connection, holder: UUID, lease: timedelta, ctx: Context[None]
) -> tuple[int, int]:
    """Return once this relay is the active one: (xid, seq) up to which everything is published."""
    while (cursor := await events.lead(connection, holder, lease)) is None:
        LAG.measured(await events.lag(connection))
        await asyncio.sleep(ctx.settings.relay_poll)
    return cursor


async def _leave(holder: UUID, ctx: Context[None]) -> None:
    """Release the cursor, so that another relay takes over at once. Where that fails, it does after the lease."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await events.leave(ctx.pool, holder)
