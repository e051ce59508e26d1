"""Messages that the window decides on together: each gets its own decision, and what fails or is locked waits alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared import database
from shared.actions import admission
from shared.domain.model import Template
from shared.queue.jobs import Job, SendReady, SendRequested
from shared.queue.worker import Context
from shared.settings import Settings
from shared.store.messages.outbound_rows import Outbound
from tests.support.stage import Ours, Stage, staged
from workers import window

LONG_AGO = timedelta(hours=25)
SILENT: dict[str, Any] = {"reply": {"engine": "none"}}
OWN = Template("HX" + "3" * 32)


def customer(number: int) -> str:
    return f"+3460000{number:04}"


@asynccontextmanager
async def locked_by_its_tenant(stage: Stage, ours: Ours, statement: str) -> AsyncIterator[None]:
    """A session of the tenant's that locks a row and stands still."""
    async with (
        database.ApiPool(stage.settings, process="test api", size=1) as api,
        api.tenant_transaction(ours.tenant_id) as connection,
    ):
        await connection.execute(statement)
        yield


class Published:
    """Decides as the worker does, and keeps the jobs instead of publishing them."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stage = stage
        self.jobs: list[SendReady] = []

        async def publish(_: Context[Any], *jobs: Job) -> None:
            self.jobs += [job for job in jobs if isinstance(job, SendReady)]

        monkeypatch.setattr(Context, "publish", publish)

    async def decide(self, *requests: SendRequested) -> list[SendRequested]:
        return list(await window.admit(requests, self._stage.context) or ())

    @property
    def messages(self) -> list[UUID]:
        return [job.message_id for job in self.jobs]


async def test_each_message_of_a_batch_gets_its_own_decision(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(settings, SILENT) as stage:
        failing = await stage.add_channel(SILENT | {"window": {"policy": "fail"}}, address="+14155550001")
        deleted = await stage.add_channel(SILENT, address="+14155550002")
        texts = await stage.add_channel(SILENT, kind="sms", address="+14155550003")
        talks = {
            "ready": await stage.converse(customer=customer(1)),
            "held": await stage.converse(customer=customer(2), last_message_ago=LONG_AGO),
            "failed": await stage.converse(customer=customer(3), ours=failing, last_message_ago=LONG_AGO),
            "canceled": await stage.converse(customer=customer(4), ours=deleted),
            "stopped": await stage.converse(customer=customer(5)),
            "sms": await stage.converse(customer=customer(6), ours=texts),
        }
        of = {"failed": failing, "canceled": deleted, "sms": texts}
        requests = {name: await stage.requested(talk, name, ours=of.get(name)) for name, talk in talks.items()}
        await stage.pool.execute(
            """INSERT INTO consents (id, tenant_id, contact_id, channel_kind, state, source)
            SELECT gen_random_uuid(), tenant_id, contact_id, 'whatsapp', 'opted_out', 'api'
            FROM conversations WHERE id = $1""",
            talks["stopped"],
        )
        await stage.pool.execute("UPDATE channels SET deleted_at = now() WHERE id = $1", deleted.id)

        published = Published(stage, monkeypatch)
        assert await published.decide(*requests.values()) == []

        rows = {name: await stage.message(request.message_id) for name, request in requests.items()}
        found = {name: (row["status"], row["error_code"]) for name, row in rows.items()}
        assert found == {
            "ready": ("ready", None),
            "held": ("held", None),
            "failed": ("failed", "window_closed"),
            "canceled": ("canceled", "channel_deleted"),
            "stopped": ("failed", "opted_out"),
            "sms": ("ready", None),
        }
        assert {name for name, row in rows.items() if row["due_at"] is not None} == {"ready", "held", "sms"}
        assert {name for name, row in rows.items() if row["admitted_at"] is not None} == {"ready", "sms"}
        assert {name for name, row in rows.items() if row["failed_at"] is not None} == {"failed", "stopped"}
        assert rows["sms"]["metadata"] == {"sms": {"segments": 1, "encoding": "gsm7"}}
        assert set(published.messages) == {rows["ready"]["id"], rows["sms"]["id"]}
        events = await stage.rows("SELECT name, message_id, detail FROM events WHERE name LIKE 'message.%'")
        assert {(event["name"], event["message_id"], event["detail"].get("error_code")) for event in events} == {
            ("message.held", rows["held"]["id"], None),
            ("message.failed", rows["failed"]["id"], "window_closed"),
            ("message.failed", rows["stopped"]["id"], "opted_out"),
            ("message.canceled", rows["canceled"]["id"], "channel_deleted"),
        }


async def test_a_job_that_comes_twice_in_a_batch_is_decided_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(settings, SILENT) as stage:
        conversation = await stage.converse(last_message_ago=LONG_AGO)
        held = await stage.requested(conversation, "1")
        ready = await stage.requested(conversation, template=OWN)
        published = Published(stage, monkeypatch)
        assert await published.decide(held, ready, held, ready) == []
        assert await stage.statuses() == ["held", "ready"]
        assert published.messages == [ready.message_id]
        assert await stage.count("events WHERE name = 'message.held'") == 1
        assert await published.decide(ready, held) == []
        assert published.messages == [ready.message_id]


async def test_the_messages_of_one_conversation_go_on_in_their_order(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(settings, SILENT) as stage:
        conversation = await stage.converse()
        requests = [await stage.requested(conversation, str(number)) for number in range(4)]
        published = Published(stage, monkeypatch)
        await published.decide(*reversed([one.model_copy(update={"trace": one.message_id.hex}) for one in requests]))
        assert published.messages == [one.message_id for one in requests]
        assert [job.trace for job in published.jobs] == [one.message_id.hex for one in requests]


async def test_what_a_held_message_lets_pass_carries_its_trace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(settings, SILENT) as stage:
        conversation = await stage.converse(last_message_ago=LONG_AGO)
        first = await stage.requested(conversation, "hola")
        second = await stage.requested(conversation, template=OWN)
        await window.admit([second], stage.context)
        published = Published(stage, monkeypatch)
        await published.decide(first.model_copy(update={"trace": "follows"}))
        assert [(job.message_id, job.trace) for job in published.jobs] == [(second.message_id, "follows")]


@pytest.mark.parametrize("table", ["conversations", "messages"])
async def test_a_conversation_that_its_tenant_locks_is_left_and_the_others_go_on(
    settings: Settings, table: str
) -> None:
    async with staged(settings, SILENT) as stage:
        theirs = await stage.add_channel(SILENT, address="+14155550001")
        locked = await stage.requested(await stage.converse(ours=theirs), "theirs", ours=theirs)
        free = await stage.requested(await stage.converse(ours=theirs, customer=customer(9)), "beside", ours=theirs)
        others = [await stage.requested(await stage.converse(customer=customer(n)), "hola") for n in range(5)]
        row = locked.conversation_id if table == "conversations" else locked.message_id
        async with locked_by_its_tenant(stage, theirs, f"SELECT FROM {table} WHERE id = '{row}' FOR UPDATE"):
            requests = [locked, *others, free]
            assert await window.admit(requests, stage.context) == [locked]
            for one in (*others, free):
                assert await stage.status(one.message_id) == "ready"
            async with stage.context.transaction() as tx:
                await tx.execute("SET LOCAL lock_timeout = '100ms'")
                with pytest.raises(database.LockTimeout):
                    await window._lock(tx, [locked])  # alone it waits
        assert await stage.status(locked.message_id) == "queued"
        assert await window.admit([locked], stage.context) == []
        assert await stage.status(locked.message_id) == "ready"


async def test_a_worker_sends_what_is_free_while_a_tenant_holds_its_conversation(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        theirs = await stage.add_channel(SILENT, address="+14155550001")
        locked = await stage.requested(await stage.converse(ours=theirs), "theirs", ours=theirs)
        others = [await stage.requested(await stage.converse(customer=customer(n)), "hola") for n in range(5)]
        async with stage.working("window", "send"):
            statement = f"SELECT FROM conversations WHERE id = '{locked.conversation_id}' FOR UPDATE"
            async with locked_by_its_tenant(stage, theirs, statement):
                await stage.deliver(locked, *others)
                for one in others:
                    await stage.until(stage.status, one.message_id, equals="sent")
                assert await stage.status(locked.message_id) == "queued"
            await stage.until(stage.status, locked.message_id, equals="sent")
        assert await stage.dead_letters() == {}


async def test_a_message_that_cannot_be_decided_on_costs_the_others_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule fails on one message of a batch: it is a dead letter, and parked."""
    sound = admission.verdict_on

    def broken(message: Outbound, *rest: Any) -> Any:
        if message.content == "bad":
            raise RuntimeError
        return sound(message, *rest)

    monkeypatch.setattr(window, "verdict_on", broken)
    async with staged(settings, SILENT) as stage:
        talks = [await stage.converse(customer=customer(number)) for number in range(9)]
        requests = [await stage.requested(talk, "bad" if n == 4 else "hola") for n, talk in enumerate(talks)]
        await stage.deliver(*requests)
        async with stage.working("window", "send", "clock"):
            for request in requests[:4] + requests[5:]:
                await stage.until(stage.status, request.message_id, equals="sent")
            await stage.until(stage.dead_letters, equals={"window": 1})
        row = await stage.message(requests[4].message_id)
        assert (row["status"], row["due_at"]) == ("queued", None)


async def test_two_batches_over_the_same_conversations_decide_each_message_once(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("send"):
        talks = [await stage.converse(customer=customer(number)) for number in range(10)]
        requests = [await stage.requested(talk, f"{n}") for talk in talks for n in range(3)]
        async with stage.working("window"), stage.working("window"):
            for _ in range(3):
                await stage.deliver(*requests)
                await stage.deliver(*reversed(requests))
            await stage.until(stage.statuses, equals=["sent"] * 30)
        for number in range(10):
            assert await stage.bodies(customer(number)) == ["0", "1", "2"]
