"""Customers who are answered together: each gets their own answer, and what fails or is locked waits alone."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from ops.sandbox.openai import MODEL
from shared import database
from shared.bot import rules
from shared.bot.base import Answer, Turn
from shared.domain import loop_guard
from shared.domain.channels import UNREAD_WAIT
from shared.queue.jobs import Job, ReplyWanted, SendReady
from shared.queue.worker import Context
from shared.settings import Settings
from tests.support.stage import CUSTOMER, Ours, Stage, staged
from workers.persist import worker as persist
from workers.reply import at_once
from workers.reply import worker as reply
from workers.reply.engines import Engines, open_resource

RULES: dict[str, Any] = {"reply": {"engine": "rules", "greeting": "Hola", "menu": []}}
MODELS: dict[str, Any] = {"reply": {"engine": "llm", "llm": {"model": MODEL, "timeout": 5}}}
EVERY = ("persist", "reply", "window", "send", "clock")


def customer(number: int) -> str:
    return f"+3460000{number:04}"


class Answering:
    """Answers as the worker does, and keeps the jobs instead of publishing them."""

    def __init__(self, stage: Stage, engines: Engines) -> None:
        self.stage = stage
        self.context: Context[Engines] = Context(stage.settings, stage.pool, stage.publisher, engines)
        self.jobs: list[Job] = []

    async def says(self, text: str, *, number: int = 1, ours: Ours | None = None) -> ReplyWanted:
        """A customer's message, stored; its job."""
        ours = ours or self.stage.ours
        await persist.persist([self.stage.said(text, sender=customer(number), to=ours)], self.stage.context)
        conversation = await self.stage.value(
            "SELECT id FROM conversations WHERE channel_id = $1 AND recipient = $2", ours.id, customer(number)
        )
        return ReplyWanted(
            tenant_id=ours.tenant_id, channel_id=ours.id, conversation_id=conversation, trace=f"{number:016}"
        )

    async def answer(self, *wanted: ReplyWanted) -> list[ReplyWanted]:
        return list(await reply.reply_at_once(wanted, self.context) or ())

    async def answers(self, wanted: ReplyWanted) -> list[str]:
        """What we said in the conversation."""
        rows = await self.stage.rows(
            "SELECT content FROM messages WHERE conversation_id = $1 AND direction = 'outbound' ORDER BY out_seq",
            wanted.conversation_id,
        )
        return [row["content"] for row in rows]

    async def owed(self, wanted: ReplyWanted) -> bool:
        due = "SELECT reply_due_at IS NOT NULL FROM conversations WHERE id = $1"
        return bool(await self.stage.value(due, wanted.conversation_id))


@asynccontextmanager
async def answering(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, channel: dict[str, Any] = RULES
) -> AsyncIterator[Answering]:
    async with staged(settings, channel, handoff_lease=60.0) as stage, open_resource(stage.settings) as open_:
        found = Answering(stage, open_)

        async def publish(ctx: Context[Any], *jobs: Job) -> None:
            if ctx is found.context:
                found.jobs += jobs

        monkeypatch.setattr(Context, "publish", publish)
        yield found


@asynccontextmanager
async def locked_by_its_tenant(stage: Stage, ours: Ours, statement: str) -> AsyncIterator[None]:
    """A session of the tenant's that locks a row and stands still."""
    async with (
        database.ApiPool(stage.settings, process="test api", size=1) as api,
        api.tenant_transaction(ours.tenant_id) as connection,
    ):
        await connection.execute(statement)
        yield


async def test_each_conversation_of_a_batch_gets_its_own_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(settings, monkeypatch) as here:
        bye = {"reply": {"engine": "rules", "greeting": "Adiós", "menu": []}}
        other = await here.stage.add_channel(bye, address="+14155550001")
        wanted = [await here.says("hola", number=n) for n in range(3)]
        wanted.append(await here.says("hola", ours=other))
        assert await here.answer(*wanted) == []
        assert [await here.answers(one) for one in wanted] == [["Hola"], ["Hola"], ["Hola"], ["Adiós"]]
        assert not any([await here.owed(one) for one in wanted])
        events = await here.stage.rows("SELECT message_id, channel_id FROM events WHERE name = 'message.queued'")
        rows = await here.stage.rows("SELECT id, channel_id, conversation_id FROM messages WHERE role = 'assistant'")
        assert {(one["message_id"], one["channel_id"]) for one in events} == {
            (one["id"], one["channel_id"]) for one in rows
        }
        traces = {one.conversation_id: one.trace for one in wanted}
        assert {job.about["conversation"]: job.trace for job in here.jobs} == {
            str(conversation): trace for conversation, trace in traces.items()
        }
        assert {job.about["message"] for job in here.jobs} == {str(one["id"]) for one in rows}


async def test_several_messages_of_a_conversation_and_its_job_twice_get_one_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(settings, monkeypatch, {"reply": RULES["reply"] | {"rules": [
        {"patterns": ["precio"], "answer": "10 €"},
    ]}}) as here:  # fmt: skip
        first = await here.says("precio")
        second = await here.says("gracias")
        other = await here.says("hola", number=2)
        assert await here.answer(first, other, second, first) == []
        assert await here.answers(first) == ["10 €"], "the engine reads all that is unanswered"
        assert await here.answers(other) == ["Hola"]
        assert len(here.jobs) == 2
        counts = "SELECT user_message_count, answered_count, next_out_seq FROM conversations WHERE id = $1"
        assert tuple(await here.stage.row(counts, first.conversation_id)) == (2, 2, 2)
        assert await here.answer(first, other) == []
        assert len(here.jobs) == 2


async def test_of_a_batch_each_conversation_goes_its_own_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(settings, monkeypatch) as here:
        stage = here.stage
        silent, deleted, unread = [
            await stage.add_channel(RULES, address=f"+1415555000{number}") for number in range(1, 4)
        ]
        wanted = {
            "answered": await here.says("hola"),
            "silent": await here.says("hola", ours=silent),
            "deleted": await here.says("hola", ours=deleted),
            "unread": await here.says("hola", ours=unread),
            "stopped": await here.says("stop", number=2),
            "escalated": await here.says("hola", number=3),
            "leased": await here.says("hola", number=4),
            "looping": await here.says("hola", number=5),
        }
        wanted["stopped"] = await here.says("hola", number=2)
        ids = {name: one.conversation_id for name, one in wanted.items()}
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now() WHERE id = $1", ids["stopped"])
        for _ in range(loop_guard.MOST_REPEATS):
            await here.says("Gracias por su mensaje, le contestaremos pronto.", number=5)
        changed = "UPDATE channels SET settings = $2 WHERE id = $1"
        await stage.pool.execute(changed, silent.id, {"reply": {"engine": "none"}})
        await stage.pool.execute(changed, unread.id, {"reply": {"engine": "of a newer version"}})
        await stage.pool.execute("UPDATE channels SET deleted_at = now() WHERE id = $1", deleted.id)
        await stage.pool.execute("UPDATE conversations SET status = 'escalated' WHERE id = $1", ids["escalated"])
        await stage.pool.execute(
            """UPDATE conversations SET reply_lease_id = gen_random_uuid(),
                reply_lease_until = now() + interval '1 hour' WHERE id = $1""",
            ids["leased"],
        )

        assert await here.answer(*wanted.values()) == []

        assert {name for name, one in wanted.items() if await here.answers(one)} == {"answered"}
        assert {name for name, one in wanted.items() if await here.owed(one)} == {"unread", "leased"}
        later = "conversations WHERE reply_due_at > now() + $1::interval"
        assert await stage.count(f"{later} AND id = $2", UNREAD_WAIT - timedelta(seconds=30), ids["unread"]) == 1
        unanswered = "conversations WHERE answered_count < user_message_count AND id = $1"
        left = {name for name, one in ids.items() if await stage.count(unanswered, one)}
        assert left == {"unread", "leased", "escalated"}
        assert await stage.count("conversations WHERE reply_lease_id IS NOT NULL") == 1
        assert len(here.jobs) == 1


async def test_a_conversation_that_its_tenant_locks_is_left_and_the_others_are_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(settings, monkeypatch) as here:
        theirs = await here.stage.add_channel(RULES, address="+14155550001")
        locked, free = [await here.says("hola", number=number, ours=theirs) for number in (1, 2)]
        others = [await here.says("hola", number=number) for number in range(3, 6)]
        row = f"SELECT FROM conversations WHERE id = '{locked.conversation_id}' FOR UPDATE"
        async with locked_by_its_tenant(here.stage, theirs, row):
            assert await here.answer(locked, *others, free, locked) == [locked, locked]
            for one in (*others, free):
                assert await here.answers(one) == ["Hola"]
            async with here.stage.context.transaction() as tx:
                await tx.execute("SET LOCAL lock_timeout = '100ms'")
                with pytest.raises(database.LockTimeout):
                    await at_once._sort_out(tx, [locked], here.context.resource.by_name)  # alone it waits
        assert await here.answers(locked) == []
        assert await here.answer(locked) == []
        assert await here.answers(locked) == ["Hola"]


async def test_a_worker_answers_who_is_free_while_a_tenant_holds_its_conversations(settings: Settings) -> None:
    async with staged(settings, RULES, handoff_lease=60.0) as stage:
        theirs = await stage.add_channel(RULES, address="+14155550001")
        async with stage.working("persist"):
            await stage.deliver(*(stage.said("hola", sender=customer(n), to=theirs) for n in range(5)))
            await stage.deliver(*(stage.said("hola", sender=customer(n)) for n in range(5, 10)))
            await stage.until(stage.owed, equals=10)
        row = f"SELECT FROM conversations WHERE tenant_id = '{theirs.tenant_id}' FOR UPDATE"
        async with stage.working("reply", "window", "send"):
            async with locked_by_its_tenant(stage, theirs, row):
                for number in range(5, 10):
                    await stage.until(stage.bodies, customer(number), equals=["Hola"])
            for number in range(5):
                await stage.until(stage.bodies, customer(number), equals=["Hola"])
        assert await stage.dead_letters() == {}


async def test_a_conversation_that_an_engine_fails_on_costs_the_others_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = rules.RulesEngine.answer

    async def broken(self: rules.RulesEngine, given: Any, history: Sequence[Turn], *rest: Any) -> Answer:
        if history[-1].text == "bad":
            raise RuntimeError
        return await sound(self, given, history, *rest)

    monkeypatch.setattr(rules.RulesEngine, "answer", broken)
    async with staged(settings, RULES) as stage:
        async with stage.working("persist"):
            await stage.deliver(*(stage.said("bad" if n == 4 else "hola", sender=customer(n)) for n in range(9)))
            await stage.until(stage.owed, equals=9)
        async with stage.working("reply", "window", "send", "clock"):
            for number in (*range(4), *range(5, 9)):
                await stage.until(stage.bodies, customer(number), equals=["Hola"])
            await stage.until(stage.dead_letters, equals={"reply": 1})
        parked = "conversations WHERE reply_due_at IS NULL AND reply_wanted_since IS NOT NULL AND recipient = $1"
        assert await stage.count(parked, customer(4)) == 1


@pytest.mark.parametrize(("bound", "value"), [("LONGEST", -1.0), ("MOST_READ", 1)])
async def test_answers_that_take_much_time_or_memory_are_made_one_by_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    """persist waits for the conversations of a batch, so an engine that takes its time gets few of them."""
    monkeypatch.setattr(at_once, bound, value)
    async with answering(settings, monkeypatch) as here:
        wanted = [await here.says("hola", number=number) for number in range(4)]
        left = await here.answer(*wanted)
        assert len(left) == 3
        assert [await here.owed(one) for one in left] == [True] * 3
        assert len(here.jobs) == 1
        for one in left:
            assert await here.answer(one) == []
        assert [await here.answers(one) for one in wanted] == [["Hola"]] * 4


async def test_a_batch_does_not_wait_for_a_model_that_a_channel_has_got_meanwhile(settings: Settings) -> None:
    async with staged(settings, RULES, handoff_lease=60.0, stop_grace=0.2) as stage:
        other = await stage.add_channel(RULES, address="+14155550001")
        async with stage.working("persist"):
            await stage.deliver(*(stage.said("hola", sender=customer(n)) for n in range(11, 14)))
            await stage.deliver(stage.said("hola", to=other))
            await stage.until(stage.owed, equals=4)
        await stage.configure(MODELS)
        await stage.sandbox.faults({"provider": "openai", "action": "slow", "delay_ms": 2000})
        async with stage.working("reply", "window", "send"):
            await stage.until(stage.bodies, CUSTOMER, equals=["Hola"])
            for number in range(11, 14):
                await stage.until(stage.bodies, customer(number), equals=["You said: hola"])
            first = "SELECT content FROM messages WHERE role = 'assistant' ORDER BY created_at LIMIT 1"
            assert await stage.value(first) == "Hola"
        assert await stage.owed() == 0


async def test_a_message_that_comes_after_the_answer_is_answered_by_the_next_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(settings, monkeypatch) as here:
        wanted, other = await here.says("hola"), await here.says("hola", number=2)
        await here.answer(wanted, other)
        again = await here.says("¿y?")
        assert await here.owed(again)
        await here.answer(again, other)
        assert len(await here.answers(wanted)) == 2
        assert len(await here.answers(other)) == 1


# -- ready at once -----------------------------------------------------------------------------------------------------


async def test_an_answer_in_an_open_window_leaves_without_the_windows_worker(settings: Settings) -> None:
    async with staged(settings, RULES, handoff_lease=60.0) as stage, stage.working("persist", "reply", "send"):
        await stage.deliver(*(stage.said("hola", sender=customer(n)) for n in range(3)))
        await stage.until(stage.statuses, equals=["sent"] * 3)
        assert [await stage.bodies(customer(n)) for n in range(3)] == [["Hola"]] * 3
        assert await stage.count("messages WHERE role = 'assistant' AND admitted_at IS NULL") == 0
        names = [row["name"] for row in await stage.rows("SELECT name FROM events ORDER BY xid, seq")]
        assert names.count("message.queued") == names.count("message.sent") == 3


async def test_an_answer_says_what_the_window_would_have_added(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(settings, monkeypatch) as here:
        texts = await here.stage.add_channel(RULES, kind="sms", address="+14155550001")
        wanted = await here.says("hola", ours=texts)
        await here.answer(wanted)
        (row,) = await here.stage.rows("SELECT status, due_at, metadata FROM messages WHERE role = 'assistant'")
        assert row["status"] == "ready"
        assert row["due_at"] is not None
        assert row["metadata"] == {
            "engine": "rules", "outcome": "greeting", "sms": {"segments": 1, "encoding": "gsm7"},
        }  # fmt: skip
        (job,) = here.jobs
        assert isinstance(job, SendReady)
        assert (job.provider, job.lane, job.trace) == ("twilio", "normal", wanted.trace)


@pytest.mark.parametrize(("policy", "becomes"), [("hold", "held"), ("fail", "failed"), ("template", "sent")])
async def test_an_answer_in_a_closed_window_is_left_to_the_windows_worker(
    settings: Settings, policy: str, becomes: str
) -> None:
    template = {"name": "HX" + "2" * 32, "variables": {}}
    async with (
        staged(settings, RULES | {"window": {"policy": policy, "template": template}}, handoff_lease=60.0) as stage,
        stage.working("persist", "send"),
    ):
        day_old = await stage.value("SELECT now() - interval '25 hours'")
        async with stage.working("reply"):
            await stage.deliver(stage.said("hola", received_at=day_old))
            await stage.until(stage.statuses, equals=["queued"])
        async with stage.working("window"):
            await stage.until(stage.statuses, equals=[becomes])
        sent = [seen.content_sid for seen in await stage.accepted()]
        assert sent == ([template["name"]] if policy == "template" else [])


async def test_an_answer_behind_a_message_that_is_not_decided_on_waits_for_it(settings: Settings) -> None:
    async with staged(settings, RULES, handoff_lease=60.0) as stage, stage.working("persist", "reply", "send"):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.statuses, equals=["sent"])
        conversation = await stage.value("SELECT id FROM conversations")
        first = await stage.requested(conversation, "before")
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.statuses, equals=["sent", "queued", "queued"])
        await stage.deliver(first)
        async with stage.working("window"):
            await stage.until(stage.statuses, equals=["sent"] * 3)
        assert (await stage.bodies())[1] == "before"


async def test_an_answer_behind_held_messages_that_the_customer_releases_keeps_its_place(settings: Settings) -> None:
    greets = {"reply": RULES["reply"] | {"fallback": "Hola"}}  # it is no greeting, for we have written before
    async with staged(settings, greets) as stage, stage.working("persist", "reply", "send"):
        conversation = await stage.converse(last_message_ago=timedelta(hours=25))
        async with stage.working("window"):
            for text in ("1", "2"):
                await stage.owe(conversation, text)
            await stage.until(stage.statuses, equals=["held", "held"])
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.count, "messages WHERE role = 'assistant'", equals=3)
        async with stage.working("window", "clock"):
            await stage.until(stage.statuses, equals=["sent"] * 3)
        assert await stage.bodies() == ["1", "2", "Hola"]
