"""SendRequested → consents, 24-hour window → SendReady.

A transaction decides on many messages. It waits for no lock: what another session has locked is left for later.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared import database
from shared.actions import messaging_limit
from shared.actions.admission import Unread, decided, event_of, uses_limit, verdict_on
from shared.domain.channels import UNREAD_WAIT
from shared.queue import topology
from shared.queue.jobs import SendReady, SendRequested
from shared.queue.worker import Context, Worker
from shared.store import channels, conversations, due_rows
from shared.store.events import record
from shared.store.messages import outbound
from shared.store.messages.outbound_rows import Outbound, send_job

worker: Worker[SendRequested, None] = Worker(
    name="window",
    queues=(topology.WINDOW,),
    consumes=(SendRequested,),
    publishes=(SendReady,),
    concurrency=4,  # each takes a connection of the pool for a few short statements
    batch=50,  # the conversations of a batch are locked together, for some 10 ms
)


@worker.handle_batch
async def admit(requests: Sequence[SendRequested], ctx: Context[None]) -> list[SendRequested]:
    handoff = timedelta(seconds=ctx.settings.handoff_lease)
    async with ctx.transaction() as tx:
        messages, left = await _lock(tx, requests)
        jobs = await _decide(tx, messages, handoff)
    traces = {request.message_id: request.trace for request in requests}
    by_lane = {_lane(message): traces[message.id] for message in messages}
    await ctx.publish(
        *(job.model_copy(update={"trace": traces.get(job.message_id) or by_lane[_lane(job)]}) for job in jobs)
    )
    return left


@worker.postpone
async def postpone(request: SendRequested, ctx: Context[None], wait: timedelta | None) -> None:
    await outbound.postpone(ctx.pool, request.tenant_id, request.message_id, wait, of=("queued",))


async def _lock(
    tx: database.Connection, requests: Sequence[SendRequested]
) -> tuple[list[Outbound], list[SendRequested]]:
    """Lock the conversations and the messages that are to be decided on; returns these, and the requests that are left
    because another session has a lock. The lock of a single request is waited for."""
    alone = len(requests) == 1
    # persist takes this lock too, so a message is never held at the moment at which a customer's opens the window.
    asked = {(request.tenant_id, request.conversation_id) for request in requests}
    ours = await conversations.lock_each(tx, asked, wait=alone)
    keys = {(one.tenant_id, one.message_id) for one in requests if (one.tenant_id, one.conversation_id) in ours}
    messages, locked = await outbound.lock_queued(tx, keys, wait=alone)
    left = [one for one in requests if (one.tenant_id, one.message_id) not in keys or one.message_id in locked]
    return messages, [] if alone else left


async def _decide(tx: database.Connection, messages: Sequence[Outbound], handoff: timedelta) -> list[SendReady]:
    """Decide on these messages, which are locked; returns the jobs for what may be sent now."""
    found = await channels.by_key(tx, {(message.tenant_id, message.channel_id) for message in messages})
    decisions, events, uses, freed = [], [], [], []
    jobs: dict[object, SendReady] = {}
    for message in messages:
        channel = found.get((message.tenant_id, message.channel_id))
        verdict = verdict_on(message, channel)
        if isinstance(verdict, Unread):
            await outbound.postpone(tx, message.tenant_id, message.id, UNREAD_WAIT, of=("queued",))
        if (becomes := decided(message, channel, verdict)) is None:
            continue
        decisions.append(becomes)
        if (event := event_of(message, becomes)) is not None:
            events.append(event)
        if channel is not None and becomes.status == "ready":
            jobs[message.id] = send_job(message, channel.provider)
        if channel is not None and uses_limit(message, verdict):
            uses.append((channel, message.conversation_id))
        if becomes.status in ("held", "failed"):
            freed.append(_lane(message))
    await outbound.decide(tx, decisions, handoff)
    await messaging_limit.count_each(tx, uses)
    await record(tx, *events)
    # A message held or failed no longer blocks the next one of its lane, which may have been admitted earlier.
    if freed:
        jobs |= {job.message_id: job for job in await due_rows.next_in_lanes(tx, freed)}
    return list(jobs.values())


def _lane(one: Outbound | SendReady) -> tuple[UUID, UUID, str]:
    return one.tenant_id, one.conversation_id, one.lane
