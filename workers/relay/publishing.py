"""Publishes a batch of events in its order, each run of one name as an envelope."""

import asyncio
from collections.abc import Sequence

from shared.database.each_row import skipped
from shared.queue import topology
from shared.queue.envelope import dump, envelope, group_key
from shared.queue.jobs import EventHappened
from shared.queue.publisher import ENVELOPE_BYTES
from shared.queue.worker import Context

LONGEST_KEY = 255  # bytes of an AMQP routing key


async def publish(batch: list[EventHappened], ctx: Context[None]) -> None:
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
                mandatory=False,  # an event without any subscriber is no error
            )
            for run in runs_of(batch)
        )
    )


def runs_of(batch: Sequence[EventHappened]) -> list[list[tuple[EventHappened, bytes]]]:
    """The batch in its order, cut where the name changes or an envelope is full; each event with its JSON.

    Events that no AMQP message can hold are skipped and reported.
    """
    runs: list[list[tuple[EventHappened, bytes]]] = []
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
