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
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared import database
from shared.process import metrics
from shared.queue.jobs import EventHappened
from shared.queue.worker import Context, Loop
from shared.store import events
from workers.relay.commits import Commits
from workers.relay.cursor import Cursor
from workers.relay.lag import LAG
from workers.relay.publishing import publish, publish_apart
from workers.relay.unbound import HOLD, Unbound

worker: Loop[None] = Loop(name="relay", publishes=(EventHappened,))

APART: Final = 0.02  # seconds between two reads; commits that come meanwhile share the next one


@worker.run
async def relay(ctx: Context[None]) -> None:
    connection = await database.connect(ctx.settings, process="relay")
    holder = database.new_id()
    try:
        metrics.RELAY_ACTIVE.set(0)
        await _relay(Cursor(connection, holder, ctx.settings.relay_lease), Commits(connection), ctx)
    finally:
        metrics.RELAY_ACTIVE.set(0)
        connection.terminate()
        await _leave(holder, ctx)


async def _relay(cursor: Cursor, commits: Commits, ctx: Context[None]) -> None:
    """Publish for as long as this relay is the active one; return where another one has become it."""
    await _become_leader(cursor, ctx)
    metrics.RELAY_ACTIVE.set(1)
    ctx.log.info("relay active")
    most = limit = ctx.settings.relay_batch
    unbound = Unbound()
    lag_at = -ctx.settings.relay_poll
    while await cursor.keep():
        commits.seen()
        read_at = time.monotonic()
        try:
            batch = await cursor.next(limit)
        except Exception as error:
            if database.is_outage(error) or database.is_postgres(error):
                raise
            if limit == 1:
                await _release(unbound, ctx)
                if not await cursor.step_over(error):
                    break
            limit = max(1, limit // 2)  # until the event that can't be read is alone in its batch
            continue
        if batch:
            LAG.measured((datetime.now(UTC) - batch[0].occurred_at).total_seconds())
            unbound.answered(await publish(unbound.ready(batch), ctx), time.monotonic())
            cursor.read = (batch[-1].xid, batch[-1].seq)
            metrics.RELAYED.inc(len(batch))
        if unbound.due(time.monotonic()):
            await _release(unbound, ctx)
        if not unbound.held and not await cursor.move():
            break
        if len(batch) == limit:
            limit = min(2 * limit, most)
            continue
        limit = most
        if time.monotonic() - lag_at >= ctx.settings.relay_poll:  # not at every commit that wakes the relay
            LAG.measured(await cursor.lag())
            lag_at = time.monotonic()
        await _rest(read_at, unbound, commits, ctx)
    ctx.log.warning("another relay is active by now")


async def _release(unbound: Unbound, ctx: Context[None]) -> None:
    """Publish the held events; those that nobody is bound to by now either are done with."""
    unbound.answered(await publish_apart(unbound.release(), ctx), time.monotonic())


async def _rest(read_at: float, unbound: Unbound, commits: Commits, ctx: Context[None]) -> None:
    """Wait until there may be something to publish."""
    now = time.monotonic()
    if unbound.nobody(now):
        await commits.ignore()
        await asyncio.sleep(min(HOLD, ctx.settings.relay_lease / 3))
        return
    if await commits.listen():
        await commits.next(min(ctx.settings.relay_poll, unbound.wait(now)))
    await asyncio.sleep(read_at + APART - time.monotonic())


async def _become_leader(cursor: Cursor, ctx: Context[None]) -> None:
    """Return once this relay is the active one."""
    while not await cursor.take():
        LAG.measured(await cursor.lag())
        await asyncio.sleep(ctx.settings.relay_poll)


async def _leave(holder: UUID, ctx: Context[None]) -> None:
    """Release the cursor, so that another relay takes over at once. Where that fails, it does after the lease."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await events.leave(ctx.pool, holder)
