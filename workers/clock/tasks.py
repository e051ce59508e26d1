"""What a tick does, a task for each kind of row that may be due: which rows those are, and the queues of their jobs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Final
from uuid import UUID

from shared import database, providers
from shared.actions import delivery_receipts as receiving
from shared.queue import topology
from shared.queue.jobs import Job, Lane
from shared.queue.worker import Context
from shared.store import conversations, due_rows, media
from shared.store.campaigns import answers
from shared.store.campaigns import life as campaigns
from shared.store.events import Event, record
from shared.store.messages import agent_reports, outbound
from shared.store.webhook_deliveries import turns
from workers.clock import sealing, webhook_replays
from workers.clock.windows import ExpiringWindows

Ctx = Context[None]
Task = Callable[[database.Connection, Ctx], Awaitable[Sequence[Job]]]

HELD_AT_ONCE: Final = 1000  # messages that a tick checks


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


async def _campaigns(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await campaigns.due(tx, _handoff(ctx), ctx.settings.clock_batch)


async def _webhooks(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await turns.due(tx, _handoff(ctx), ctx.settings.clock_batch)


async def _parked_receipts(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    _, fallbacks = await receiving.apply_parked(tx, ctx.settings.clock_batch, _handoff(ctx))
    return fallbacks


async def _campaign_answers(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    await answers.enter(tx, ctx.settings.clock_batch)
    return []


async def _credentials(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    await sealing.seal_credentials(tx, ctx.settings, ctx.settings.clock_batch)
    return []


async def _webhook_secrets(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    await sealing.seal_webhook_secrets(tx, ctx.settings, ctx.settings.clock_batch)
    return []


async def _webhook_replays(tx: database.Connection, ctx: Ctx) -> Sequence[Job]:
    return await webhook_replays.mark(tx)


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
    "campaigns": _campaigns,
    "webhooks": _webhooks,
    "parked_receipts": _parked_receipts,
    "expiring_windows": ExpiringWindows(),
    "campaign_answers": _campaign_answers,
    "credentials": _credentials,
    "webhook_secrets": _webhook_secrets,
    "webhook_replays": _webhook_replays,
}

TARGETS: Final[dict[str, tuple[topology.WorkQueue, ...]]] = {
    "queued": (topology.WINDOW,),
    **{queue.name: (queue,) for queue in _READY},
    "replies": (topology.REPLY,),
    "replies_llm": (topology.REPLY_LLM,),
    "media": (topology.MEDIA,),
    "campaigns": (topology.CAMPAIGN,),
    "webhooks": (topology.WEBHOOK,),
    "webhook_replays": (topology.WEBHOOK,),
    "reports": tuple(topology.send_queue(name) for name in providers.names() if providers.provider(name).agent_reports),
}
