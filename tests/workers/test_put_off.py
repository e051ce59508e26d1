"""A job that fails has no copies: its row waits with it, and is parked once the job is dead-lettered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ops import connections
from shared.actions import dead_letters
from shared.queue import topology
from shared.queue.jobs import SendReady, UnknownDue
from shared.queue.topology import WorkQueue
from shared.queue.worker import Context, Worker
from shared.settings import Settings
from shared.store import counts, reply_leases
from shared.store.messages import parked as store
from tests.support.stage import Stage, staged
from workers import window
from workers.reply import worker as reply
from workers.send import worker as send

LEASE = 2.0  # seconds; much longer than an item takes to come back on a busy machine


class Broken:
    """A handler with a bug, in place of a worker's own until it is mended."""

    def __init__(self, patch: pytest.MonkeyPatch, worker: Worker[Any, Any]) -> None:
        self.failures = 0
        self.mended = False
        for name in ("handler", "batch_handler"):
            if (sound := getattr(worker, name)) is not None:
                patch.setattr(worker, name, self._instead_of(sound))

    def _instead_of(self, sound: Callable[[Any, Context[Any]], Awaitable[Any]]) -> Any:
        async def handle(jobs: Any, ctx: Context[Any]) -> Any:
            if not self.mended:
                self.failures += 1
                raise RuntimeError
            return await sound(jobs, ctx)

        return handle


async def dead_lettered_once(stage: Stage, queue: WorkQueue, broken: Broken) -> None:
    """The job is dead-lettered after its last step, and stays the only one for longer than any lease."""
    await stage.until(stage.dead_letters, equals={queue.name: 1})
    await asyncio.sleep(LEASE + 1.5)
    assert await stage.dead_letters() == {queue.name: 1}
    assert broken.failures == 1 + len(stage.settings.retry_delays)


async def replay(stage: Stage, queue: WorkQueue) -> None:
    await dead_letters.settle(
        stage.settings, queue, None, dead_letters.put_back(stage.publisher, queue), lambda *_: None
    )


async def discard(stage: Stage, queue: topology.WorkQueue) -> None:
    await dead_letters.settle(
        stage.settings, queue, None, dead_letters.give_up(partial(connections.transaction, stage.pool)), lambda *_: None
    )


async def set_aside(stage: Stage) -> int:
    return (await counts.by_state(stage.pool))["parked"]


async def test_a_message_the_window_fails_on_is_one_dead_letter_and_goes_on_when_replayed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch, window.worker)
    async with staged(settings, handoff_lease=LEASE) as stage, stage.working("window", "send", "clock"):
        message = await stage.owe(await stage.converse(), "hola")
        await dead_lettered_once(stage, topology.WINDOW, broken)
        row = await stage.message(message)
        assert (row["status"], row["due_at"]) == ("queued", None)
        assert await set_aside(stage) == 1
        broken.mended = True
        await replay(stage, topology.WINDOW)
        await stage.until(stage.status, message, equals="sent")
        assert await set_aside(stage) == 0


async def test_a_message_the_sender_fails_on_is_one_dead_letter_and_goes_on_when_replayed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch, send.worker)
    async with staged(settings, handoff_lease=LEASE) as stage, stage.working("window", "send", "clock"):
        message = await stage.owe(await stage.converse(), "hola")
        await dead_lettered_once(stage, topology.send_queue("twilio", "normal"), broken)
        row = await stage.message(message)
        assert (row["status"], row["due_at"]) == ("ready", None)
        assert await set_aside(stage) == 1
        broken.mended = True
        await replay(stage, topology.send_queue("twilio", "normal"))
        await stage.until(stage.status, message, equals="sent")
        assert await set_aside(stage) == 0


async def test_what_was_set_aside_is_given_up_with_its_dead_letter(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch, window.worker)
    async with staged(settings, handoff_lease=LEASE) as stage, stage.working("window", "clock"):
        message = await stage.owe(await stage.converse(), "hola")
        await dead_lettered_once(stage, topology.WINDOW, broken)
        assert await set_aside(stage) == 1
        await discard(stage, topology.WINDOW)
        row = await stage.message(message)
        assert (row["status"], row["error_code"]) == ("failed", "discarded")
        assert await set_aside(stage) == 0
        assert await stage.count("events WHERE name = 'message.failed' AND message_id = $1", message) == 1


async def test_a_reply_that_was_set_aside_is_owed_no_longer_once_its_dead_letter_is_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch, reply.worker)
    async with owing(settings) as stage:
        await stage.deliver(stage.said("hola"))
        await dead_lettered_once(stage, topology.REPLY, broken)
        await discard(stage, topology.REPLY)
        assert await set_aside(stage) == 0
        broken.mended = True
        await stage.deliver(stage.said("again"))
        await stage.until(stage.count, "messages WHERE direction = 'outbound'", equals=1)


async def test_what_is_due_goes_its_way_though_a_dead_letter_of_it_is_thrown_away(settings: Settings) -> None:
    """An operator has replayed it, or the customer has written again, since the job was dead-lettered."""
    async with staged(settings) as stage:
        conversation = await stage.converse()
        request = await stage.requested(conversation, "hola")
        async with stage.pool.acquire() as connection, connection.transaction():
            await store.abandon(connection, [request])
        assert await stage.status(request.message_id) == "queued"


async def test_a_message_that_is_replayed_behind_another_is_owed_again(settings: Settings) -> None:
    async with staged(settings, handoff_lease=60.0) as stage, stage.working("send"):
        conversation = await stage.converse()
        await stage.requested(conversation, "1")
        second = await stage.requested(conversation, "2")
        await stage.pool.execute(
            "UPDATE messages SET due_at = NULL, status = CASE WHEN id = $1 THEN 'ready' ELSE status END",
            second.message_id,
        )
        await stage.deliver(stage.admitted(conversation, second.message_id))
        await stage.until(stage.count, "messages WHERE status = 'ready' AND due_at > now()", equals=1)
        assert await stage.count("messages WHERE status = 'queued' AND due_at IS NULL") == 1


@pytest.mark.parametrize("kind", [SendReady, UnknownDue])
@pytest.mark.parametrize("status", ["ready", "unknown", "sending"])
async def test_a_job_postpones_what_it_is_about_and_no_lease(
    settings: Settings, kind: type[SendReady | UnknownDue], status: str
) -> None:
    touched = {SendReady: "ready", UnknownDue: "unknown"}[kind] == status
    async with staged(settings) as stage:
        conversation = await stage.converse()
        message = (await stage.requested(conversation, "hola")).message_id
        await stage.pool.execute("UPDATE messages SET status = $1", status)
        job = kind(**dict(stage.admitted(conversation, message)))
        for wait, due in ((timedelta(hours=1), "now() + interval '50 minutes' < due_at"), (None, "due_at IS NULL")):
            assert send.worker.postponing is not None
            await send.worker.postponing(job, stage.context, wait)  # type: ignore[arg-type]
            assert await stage.count(f"messages WHERE {due}") == int(touched)


async def test_a_reply_the_worker_fails_on_is_one_dead_letter_and_is_given_when_replayed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch, reply.worker)
    async with owing(settings) as stage:
        await stage.deliver(stage.said("hola"))
        await dead_lettered_once(stage, topology.REPLY, broken)
        assert await set_aside(stage) == 1
        broken.mended = True
        await replay(stage, topology.REPLY)
        await stage.until(stage.count, "messages WHERE direction = 'outbound'", equals=1)
        assert await set_aside(stage) == 0


async def test_what_the_customer_writes_next_makes_a_reply_owed_that_was_set_aside(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch, reply.worker)
    async with owing(settings) as stage:
        await stage.deliver(stage.said("hola"))
        await dead_lettered_once(stage, topology.REPLY, broken)
        broken.mended = True
        await stage.deliver(stage.said("¿hay alguien?"))
        await stage.until(stage.count, "messages WHERE direction = 'outbound'", equals=1)
        assert await set_aside(stage) == 0


async def test_a_reply_that_somebody_is_making_is_left_alone(settings: Settings) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now()")
        hour, key = timedelta(hours=1), (stage.ours.tenant_id, conversation)
        async with stage.context.transaction() as tx:
            claim = await reply_leases.claim(tx, *key, hour)
        assert claim is not None
        await reply_leases.postpone(stage.pool, *key, None)
        assert await stage.count("conversations WHERE reply_due_at IS NOT NULL") == 1
        await reply_leases.release(stage.pool, *key, claim.lease_id, timedelta(0))
        await reply_leases.postpone(stage.pool, *key, hour)
        assert await stage.count("conversations WHERE reply_due_at > now() + interval '50 minutes'") == 1


@asynccontextmanager
async def owing(settings: Settings) -> AsyncIterator[Stage]:
    """A channel whose replies come from the rules, with all that a reply takes at work."""
    channel = {"reply": {"engine": "rules", "greeting": "Hola", "menu": []}}
    async with (
        staged(settings, channel, handoff_lease=LEASE) as stage,
        stage.working("persist", "reply", "window", "send", "clock"),
    ):
        yield stage
