"""The clock waits for no row that a tenant holds: all others' go on, and the tenant's when it lets go."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shared import database
from shared.queue.worker import Context
from shared.settings import Settings
from shared.store.messages import parked_receipts
from tests.support.stage import Ours, Stage, staged
from tests.workers.test_locks import ROWS, holding
from workers.clock import tasks, worker

TICK = 1.0  # seconds that one kind of work may take beside a lock; a worker's statement would wait for 1.5


@asynccontextmanager
async def worker_context(stage: Stage) -> AsyncIterator[Context[None]]:
    """With the pool that a worker has."""
    async with database.make_pool(stage.settings, process="test", size=2, lock_wait=database.LOCK_WAIT) as pool:
        yield Context(stage.settings, pool, stage.publisher, None)


async def tick(ctx: Context[None], *names: str) -> None:
    """Each of these tasks once, in no more time than without a lock."""
    for name in names:
        started = time.monotonic()
        await worker.run_task(name, tasks.TASKS[name], ctx)
        assert time.monotonic() - started < TICK, name


async def held_message(stage: Stage, ours: Ours) -> None:
    """A message that waits for the customer, who has written since."""
    conversation = await stage.converse(ours=ours)
    request = await stage.requested(conversation, "hola", ours=ours)
    await stage.pool.execute(
        "UPDATE messages SET status = 'held', due_at = now() + interval '1 hour' WHERE id = $1", request.message_id
    )


async def parked_receipt(stage: Stage, ours: Ours, number: int = 1) -> None:
    """A receipt that came before its message, which is here now."""
    conversation = await stage.converse(ours=ours)
    await stage.pool.execute(
        """INSERT INTO message_statuses (id, tenant_id, channel_id, external_id, status)
        VALUES (gen_random_uuid(), $1, $2, 'SM' || $3::int, 'delivered')""",
        *(ours.tenant_id, ours.id, number),
    )
    await stage.pool.execute(
        """INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, status, out_seq,
            external_id) VALUES ($1, $2, $3, 'twilio', 'outbound', 'assistant', 'sent', $4::int, 'SM' || $4::int)""",
        *(ours.tenant_id, conversation, ours.id, number),
    )


@pytest.mark.parametrize("row", ["conversation", "messages"])
@pytest.mark.parametrize(
    ("prepare", "task", "after"),
    [(held_message, "held", "queued"), (parked_receipt, "parked_receipts", "delivered")],
    ids=["held", "parked receipts"],
)
async def test_the_clock_passes_over_what_a_tenant_holds(
    settings: Settings, prepare: Callable[[Stage, Ours], Awaitable[None]], task: str, after: str, row: str
) -> None:
    async with staged(settings) as stage, worker_context(stage) as ctx:
        theirs, ours = stage.ours, await stage.add_channel()
        for one in (theirs, ours):
            await prepare(stage, one)
        moved = "messages WHERE tenant_id = $1 AND status = $2"
        async with holding(stage, theirs, ROWS[row]):
            await tick(ctx, task)
            assert await stage.count(moved, ours.tenant_id, after) == 1
            assert await stage.count(moved, theirs.tenant_id, after) == 0
        await tick(ctx, task)
        assert await stage.count(moved, theirs.tenant_id, after) == 1


async def test_the_clock_passes_over_receipts_that_a_tenant_is_deleting(settings: Settings) -> None:
    async with staged(settings) as stage, worker_context(stage) as ctx:
        ours = await stage.add_channel()
        for one in (stage.ours, ours):
            await parked_receipt(stage, one)
        async with holding(stage, stage.ours, "DELETE FROM message_statuses WHERE tenant_id = $1"):
            await tick(ctx, "parked_receipts")
            assert await stage.count("messages WHERE status = 'delivered'") == 1


async def test_parked_receipts_are_taken_of_each_tenant_in_turn(settings: Settings) -> None:
    async with staged(settings) as stage:
        ours = await stage.add_channel()
        for number in range(1, 6):
            await parked_receipt(stage, stage.ours, number)
        await parked_receipt(stage, ours)
        async with stage.pool.acquire() as connection, connection.transaction():
            parked = await parked_receipts.with_message(connection, 2)
        assert {one.incoming.tenant_id for one in parked} == {stage.ours.tenant_id, ours.tenant_id}


@pytest.mark.parametrize("row", ["conversation", "messages", "channel", "tenant"])
async def test_whatever_else_is_due_is_published_beside_a_lock(settings: Settings, row: str) -> None:
    async with staged(settings) as stage, worker_context(stage) as ctx:
        theirs, ours = stage.ours, await stage.add_channel()
        for one in (theirs, ours):
            for status in ("queued", "ready", "sending", "held"):
                conversation = await stage.converse(ours=one, customer=f"+34600{len(status):06}")
                request = await stage.requested(conversation, "hola", ours=one)
                await stage.pool.execute(
                    "UPDATE messages SET status = $2, due_at = now() - interval '1 minute' WHERE id = $1",
                    *(request.message_id, status),
                )
            await stage.pool.execute(
                """UPDATE conversations SET reply_due_at = now() - interval '1 minute', reply_wanted_since = now()
                WHERE id = $1""",
                conversation,
            )
        late = "WHERE tenant_id = $1 AND {} <= now() - interval '30 seconds'"  # what is looked up soon is due again
        async with holding(stage, theirs, ROWS[row]):
            await tick(ctx, *tasks.TASKS)
            assert await stage.count(f"messages {late.format('due_at')}", ours.tenant_id) == 0
            assert await stage.count(f"conversations {late.format('reply_due_at')}", ours.tenant_id) == 0
