"""Publishes a job for every row that is due. Several may run: each takes rows that no other one has locked.

The row's due time is the guarantee, the queued job only the fast way: after a lost publish, a killed worker or a
restarted broker, the row's due time passes and the clock publishes its job again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Final
from uuid import UUID

from shared import database, providers
from shared.actions import delivery_receipts as receiving
from shared.process import metrics
from shared.process.log import get_logger
from shared.queue import topology
from shared.queue.connection import BrokerAway
from shared.queue.jobs import Job, Lane, MediaWanted, ReplyWanted, SendAdmitted, SendRequested
from shared.queue.worker import Context, Loop
from shared.store import channel_endpoints, conversations, due_rows, idempotency, media, partitions, webhook_log
from shared.store.events import Event, record
from shared.store.messages import agent_reports, outbound, parked_receipts
from workers.clock import sealing
from workers.clock.blob_cleanup import sweep_forever
from workers.clock.message_retention import prune_forever

log = get_logger(__name__)
worker: Loop[None] = Loop(name="clock", publishes=(ReplyWanted, SendRequested, SendAdmitted, MediaWanted))

Ctx = Context[None]
Task = Callable[[database.Connection, Ctx], Awaitable[Sequence[Job]]]

RETENTION_EVERY: Final = 3600.0  # seconds
PARTITIONS_AHEAD: Final = 7  # days
CROWDED: Final = 50  # envelopes that wait in a queue; beyond it the clock adds none
HELD_AT_ONCE: Final = 1000  # messages that a tick checks
FORGOTTEN_AT_ONCE: Final = 10_000  # rows a transaction


@worker.run
async def tick_forever(ctx: Ctx) -> None:
    beside = [asyncio.create_task(prune_forever(ctx)), asyncio.create_task(sweep_forever(ctx))]
    try:
        await _tick_forever(ctx)
    finally:
        for task in beside:
            task.cancel()


async def _tick_forever(ctx: Ctx) -> None:
    retention_at = 0.0
    while True:
        started = time.monotonic()
        for name, task in TASKS.items():
            await apart(name, run_task(name, task, ctx), ctx)
        if started >= retention_at:
            retention_at = started + RETENTION_EVERY
            await apart("retention", retain(ctx), ctx)
            await apart("endpoints", _serve_numbers(ctx), ctx)
        metrics.CLOCK_TICK.set_to_current_time()
        await asyncio.sleep(max(0.0, ctx.settings.clock_tick - (time.monotonic() - started)))


async def apart(name: str, work: Awaitable[None], ctx: Ctx) -> None:
    """Run one kind of work so that its failure does not keep the others from theirs. Raises only for an outage."""
    try:
        await work
    except Exception as error:
        if database.is_outage(error):
            raise
        ctx.log.exception("clock: one kind of work failed", what=name)


async def run_task(name: str, task: Task, ctx: Ctx) -> None:
    """Publish jobs for all rows of one kind that are due, a batch a transaction.

    A queue that is crowded gets none: it holds jobs of these rows already, and a worker that was away for an hour would
    find each of them many times over.
    """
    targets = TARGETS.get(name, ())
    while not await _crowded(targets, ctx):

        async def once() -> Sequence[Job]:
            async with ctx.transaction() as tx:
                return await task(tx, ctx)

        jobs = await database.repeat(once)
        if jobs:
            metrics.NUDGES.labels(name).inc(len(jobs))
            ctx.log.info("overdue published", what=name, count=len(jobs))
            await ctx.publish(*jobs)
        if len(jobs) < ctx.settings.clock_batch:
            return


async def _crowded(queues: Sequence[topology.WorkQueue], ctx: Ctx) -> bool:
    """Whether any of the queues is."""
    try:
        return any([await ctx.publisher.depth(queue.name) > CROWDED for queue in queues])
    except BrokerAway:
        return True  # a job could not be published either; the rows stay due


def _handoff(ctx: Ctx) -> timedelta:
    return timedelta(seconds=ctx.settings.handoff_lease)


async def _queued(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await due_rows.queued(tx, _handoff(ctx), ctx.settings.clock_batch)


async def _ready(provider: str, lane: Lane, tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await due_rows.ready(tx, _handoff(ctx), ctx.settings.clock_batch, provider=provider, lane=lane)


async def _lost_leases(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    check = timedelta(seconds=ctx.settings.unknown_check_after)
    rows = await due_rows.lost_leases(tx, check, ctx.settings.clock_batch)
    if not rows:
        return []
    await record(
        tx,
        *(
            Event(
                "message.unknown",
                row["tenant_id"],
                row["channel_id"],
                row["conversation_id"],
                row["id"],
                detail={"error_code": "lease_ran_out"},
            )
            for row in rows
        ),
    )
    return await due_rows.next_in_lanes(tx, [(row["tenant_id"], row["conversation_id"], row["lane"]) for row in rows])


async def _expired(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    rows = await due_rows.expired(tx, ctx.settings.clock_batch)
    await record(
        tx,
        *(
            Event("message.expired", row["tenant_id"], row["channel_id"], row["conversation_id"], row["id"])
            for row in rows
        ),
    )
    return []


@dataclass
class HeldAndOpen:
    """Releases held messages whose window is open. Each tick checks some, and goes on where the last one ended."""

    _after: tuple[UUID, UUID] = due_rows.BEGINNING

    async def __call__(self, tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
        held = await due_rows.held(tx, self._after, HELD_AT_ONCE)
        self._after = held.after or due_rows.BEGINNING
        if not held.may_go:
            return []
        free = await conversations.lock_free(tx, held.may_go)
        return await outbound.release_held(tx, free, _handoff(ctx))


async def _replies(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await due_rows.replies(tx, _handoff(ctx), ctx.settings.clock_batch, waits=False)


async def _replies_llm(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await due_rows.replies(tx, _handoff(ctx), ctx.settings.clock_batch, waits=True)


async def _media(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await media.due(tx, _handoff(ctx), ctx.settings.clock_batch)


async def _reports(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await agent_reports.due(tx, _handoff(ctx), ctx.settings.clock_batch)


async def _parked_receipts(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    _, fallbacks = await receiving.apply_parked(tx, ctx.settings.clock_batch, _handoff(ctx))
    return fallbacks


async def _credentials(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    await sealing.seal_credentials(tx, ctx.settings, ctx.settings.clock_batch)
    return []


async def _webhook_secrets(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    await sealing.seal_webhook_secrets(tx, ctx.settings, ctx.settings.clock_batch)
    return []


# A task for each queue, so that a crowded queue delays only its own rows.
_READY: Final[dict[topology.WorkQueue, Task]] = {
    topology.send_queue(provider, lane): partial(_ready, provider, lane)
    for provider, lane in product(providers.names(), topology.LANES)
}

TASKS: Final[dict[str, Task]] = {
    "queued": _queued,
    "lost_leases": _lost_leases,
    **{queue.name: task for queue, task in _READY.items()},
    "expired": _expired,
    "held": HeldAndOpen(),
    "replies": _replies,
    "replies_llm": _replies_llm,
    "media": _media,
    "reports": _reports,
    "parked_receipts": _parked_receipts,
    "credentials": _credentials,
    "webhook_secrets": _webhook_secrets,
}

TARGETS: Final[dict[str, tuple[topology.WorkQueue, ...]]] = {
    "queued": (topology.WINDOW,),
    **{queue.name: (queue,) for queue in _READY},
    "replies": (topology.REPLY,),
    "replies_llm": (topology.REPLY_LLM,),
    "media": (topology.MEDIA,),
    "reports": tuple(topology.send_queue(name) for name in providers.names() if providers.provider(name).agent_reports),
}


async def _serve_numbers(ctx: Ctx) -> None:
    after: tuple[UUID, UUID] | None = channel_endpoints.FIRST
    while after is not None:
        async with ctx.transaction() as tx:
            served, after = await sealing.serve_numbers(tx, ctx.settings, after)
        if served:
            ctx.log.info("numbers have a webhook address now", count=served)


async def _make_partitions(tx: database.Connection, ctx: Ctx) -> int:
    return await partitions.make(tx, PARTITIONS_AHEAD)


async def _forget_events(tx: database.Connection, ctx: Ctx) -> int:
    return await partitions.forget_events(tx, ctx.settings.events_days)


async def _forget_webhooks(tx: database.Connection, ctx: Ctx) -> int:
    return await webhook_log.forget(tx, ctx.settings.inbound_log_days)


async def retain(ctx: Ctx) -> None:
    """Make the coming days' partitions and drop the old ones. It waits for no lock for long: it runs again in an
    hour."""
    for work in (_make_partitions, _forget_events, _forget_webhooks):
        try:
            async with ctx.transaction() as tx:
                await partitions.lock_briefly(tx)
                done = await work(tx, ctx)
            if done:
                ctx.log.info("retention", what=work.__name__.strip("_"), partitions=done)
        except database.LockTimeout:
            ctx.log.warning("could not get a lock; next hour again", what=work.__name__.strip("_"))
    # In short transactions apart from the partitions' own, whose locks last as long as their transaction.
    webhooks_days, events_days = ctx.settings.inbound_log_days, ctx.settings.events_days
    for forget, days in (
        (webhook_log.forget_keys, webhooks_days),
        (parked_receipts.forget, webhooks_days),
        (webhook_log.forget_strays, webhooks_days),
        (partitions.forget_stray_events, events_days),
        (idempotency.forget, ctx.settings.idempotency_days),
    ):
        forgotten = FORGOTTEN_AT_ONCE
        while forgotten == FORGOTTEN_AT_ONCE:
            async with ctx.transaction() as tx:
                forgotten = await forget(tx, days, FORGOTTEN_AT_ONCE)
