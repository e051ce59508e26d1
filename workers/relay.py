"""events → the `events` exchange, in commit order that never skips. Several may run, one is active.

Only rows below every running transaction are read, ordered by (transaction, sequence): one that commits late is
never behind the cursor. The cursor moves after the broker's confirm, so an event may be told twice, and never not.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from shared import db, metrics, topology
from shared.broker import ENVELOPE_BYTES, dump, envelope, group_key
from shared.each import set_apart
from shared.messages import EventHappened
from shared.store import events
from shared.worker import Context, Loop

worker: Loop[None] = Loop(name="relay", publishes=(EventHappened,))

LONGEST_KEY = 255  # bytes of an AMQP routing key
LOCK = 0x50414C4F  # pg_advisory_lock: the one active relay's


@worker.run
async def relay(ctx: Context[None]) -> None:
    connection = await db.connect(ctx.settings, process="relay")
    try:
        woken = asyncio.Event()
        await connection.add_listener("palomar_events", lambda *_: woken.set())
        metrics.RELAY_ACTIVE.set(0)
        await _become_leader(connection, ctx)
        metrics.RELAY_ACTIVE.set(1)
        ctx.log.info("relay active")
        xid, seq = await events.cursor(connection)
        limit = ctx.settings.relay_batch
        while True:
            woken.clear()
            try:
                batch = await events.after(connection, xid, seq, limit)
            except Exception as error:
                if db.is_outage(error) or db.is_postgres(error):
                    raise
                if limit == 1:
                    xid, seq = await _step_over(connection, xid, seq, error)
                limit = max(1, limit // 2)  # until the one that can't be read stands alone
                continue
            if batch:
                metrics.RELAY_LAG.set((datetime.now(UTC) - batch[0].occurred_at).total_seconds())
                await _publish(batch, ctx)
                xid, seq = batch[-1].xid, batch[-1].seq
                await events.move_cursor(connection, xid, seq)
                metrics.RELAYED.inc(len(batch))
            if len(batch) == limit:
                limit = min(2 * limit, ctx.settings.relay_batch)
            else:
                limit = ctx.settings.relay_batch
                if not batch:
                    metrics.RELAY_LAG.set(0)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), ctx.settings.relay_poll)
    finally:
        metrics.RELAY_ACTIVE.set(0)
        connection.terminate()


async def _step_over(connection: db.Connection, xid: int, seq: int, error: Exception) -> tuple[int, int]:
    """Set the next event apart, which stays in its table, and go on after it; returns its place. Raises the error where
    there is none: then it is no row's."""
    place = await events.place_after(connection, xid, seq)
    if place is None:
        raise error
    set_apart("event", error, xid=str(place[0]), seq=str(place[1]))
    await events.move_cursor(connection, *place)
    return place


async def _become_leader(connection: db.Connection, ctx: Context[None]) -> None:
    """Return once this relay is the active one; it stays so for as long as the connection lives."""
    while True:
        if await events.lead(connection, LOCK):
            return
        await asyncio.sleep(ctx.settings.relay_poll)


async def _publish(batch: list[EventHappened], ctx: Context[None]) -> None:
    """Publish in order: each run of events of one name is an envelope. All leave at once, on one channel, which keeps
    their order; all are confirmed before the cursor moves."""
    await asyncio.gather(
        *(
            ctx.publisher.publish_body(
                topology.EVENTS,
                run[0][0].name,
                envelope(EventHappened.type, [body for _, body in run]),
                message_id=run[0][0].key if len(run) == 1 else group_key([event.key for event, _ in run]),
                type_=EventHappened.type,
                mandatory=False,  # nobody listening is fine
            )
            for run in runs_of(batch)
        )
    )


def runs_of(batch: Sequence[EventHappened]) -> list[list[tuple[EventHappened, bytes]]]:
    """The batch in its order, cut where the name changes or an envelope is full; each event with its JSON.

    Without what no message can hold, which is set apart.
    """
    runs: list[list[tuple[EventHappened, bytes]]] = []
    size = 0
    for event in batch:
        try:
            body = dump(event)
            if len(event.name.encode()) > LONGEST_KEY:
                raise ValueError("the name is longer than a routing key")
        except ValueError as error:
            set_apart("event", error, xid=str(event.xid), seq=str(event.seq))
            continue
        size += len(body)
        if runs and runs[-1][0][0].name == event.name and len(runs[-1]) < event.batch and size <= ENVELOPE_BYTES:
            runs[-1].append((event, body))
        else:
            runs.append([(event, body)])
            size = len(body)
    return runs
