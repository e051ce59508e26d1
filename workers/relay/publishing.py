"""Publishes events in their order, each run of one name as an envelope, and finds out whether anybody is bound."""

import asyncio
from collections.abc import Mapping, Sequence

from shared.database.each_row import skipped
from shared.queue import topology
from shared.queue.connection import PublishUnroutable
from shared.queue.envelope import dump, envelope, group_key
from shared.queue.jobs import EventHappened
from shared.queue.publisher import ENVELOPE_BYTES
from shared.queue.worker import Context

LONGEST_KEY = 255  # bytes of an AMQP routing key

Run = list[tuple[EventHappened, bytes]]  # events of one name, each with its JSON


async def publish(batch: Sequence[EventHappened], ctx: Context[None]) -> dict[str, bool]:
    """Publish in order: each run of events of one name is an envelope. All leave at once, on one channel, which keeps
    their order; the broker has confirmed all on return.

    Returns each name, and whether anybody was bound to it.
    """
    runs = runs_of(batch)
    taken = await asyncio.gather(*(_publish(run, ctx) for run in runs))
    return {run[0][0].name: is_bound for run, is_bound in zip(runs, taken, strict=True)}


async def publish_apart(by_name: Mapping[str, Sequence[EventHappened]], ctx: Context[None]) -> dict[str, bool]:
    """Publish each name's events in their order, without any order between the names. Where nobody is bound to a name,
    only its first envelope leaves. Returns as `publish`."""
    answers = await asyncio.gather(*(_publish_name(events, ctx) for events in by_name.values()))
    return {name: is_bound for name, is_bound in zip(by_name, answers, strict=True) if is_bound is not None}


async def _publish_name(events: Sequence[EventHappened], ctx: Context[None]) -> bool | None:
    """None: none of the events can be published."""
    runs = runs_of(events)
    if not runs or not await _publish(runs[0], ctx):
        return False if runs else None
    await asyncio.gather(*(_publish(run, ctx) for run in runs[1:]))
    return True


async def _publish(run: Run, ctx: Context[None]) -> bool:
    """Whether anybody is bound to these events. Raises PublishFailed."""
    try:
        await ctx.publisher.publish_body(
            topology.EVENTS,
            run[0][0].name,
            envelope(EventHappened.type, [body for _, body in run]),
            message_id=run[0][0].key if len(run) == 1 else group_key([event.key for event, _ in run]),
            type_=EventHappened.type,
        )
    except PublishUnroutable:
        return False
    return True


def runs_of(batch: Sequence[EventHappened]) -> list[Run]:
    """The batch in its order, cut where the name changes or an envelope is full; each event with its JSON.

    Events that no AMQP message can hold are skipped and reported.
    """
    runs: list[Run] = []
    size = 0
    for event in batch:
        try:
            body = dump(event)
            if len(event.name.encode()) > LONGEST_KEY:
                raise ValueError("the name is longer than a routing key")
        except ValueError as error:
            skipped("event", error, xid=str(event.xid), seq=str(event.seq))
            continue
        size += len(body)
        if runs and runs[-1][0][0].name == event.name and len(runs[-1]) < event.batch and size <= ENVELOPE_BYTES:
            runs[-1].append((event, body))
        else:
            runs.append([(event, body)])
            size = len(body)
    return runs
