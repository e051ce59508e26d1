"""A model that hangs for one channel delays no other channel: neither those with rules nor those with other models."""

from typing import Any
from uuid import UUID

import pytest

from ops.sandbox.observations import SeenCompletion
from ops.sandbox.openai import MODEL
from shared.queue import topology
from shared.queue.jobs import ReplyWanted
from shared.settings import Settings
from tests.support.stage import CUSTOMER, Ours, Stage, staged
from workers.clock import worker
from workers.reply.engines import CONCURRENCY, SHARE

EVERY = ("persist", "reply", "window", "send", "clock")
RULES: dict[str, Any] = {"reply": {"engine": "rules", "greeting": "Hola", "menu": []}}
HANGING = "cuelga"  # what the customers of the channel whose model hangs write


def model(**reply: object) -> dict[str, Any]:
    return {"reply": {"engine": "llm", "llm": {"model": MODEL, "timeout": 60}, **reply}}


def customer(number: int) -> str:
    return f"+34600{number:06}"


async def many_write(stage: Stage, text: str, count: int) -> None:
    """So many customers of the stage's channel write the same."""
    await stage.deliver(*(stage.said(text, sender=customer(number)) for number in range(100, 100 + count)))


async def prompts_with(stage: Stage, text: str) -> list[SeenCompletion]:
    return [prompt for prompt in await stage.sandbox.completions() if text in prompt.messages[-1].content]


async def count_prompts(stage: Stage, text: str) -> int:
    return len(await prompts_with(stage, text))


async def put_off(stage: Stage, ours: Ours) -> int:
    """Conversations of a channel that owe a reply later, and that no worker is answering."""
    owed = "conversations WHERE channel_id = $1 AND reply_due_at IS NOT NULL AND reply_lease_id IS NULL"
    return await stage.count(owed, ours.id)


async def test_a_model_that_hangs_for_one_channel_leaves_the_others_their_answers(settings: Settings) -> None:
    async with staged(settings, model(), stop_grace=0.2) as stage, stage.working(*EVERY):
        with_rules = await stage.add_channel(RULES, address="+14155550001")
        with_model = await stage.add_channel(model(), address="+14155550002")
        hangs = {"provider": "openai", "action": "hang", "seconds": 300, "match": {"body_contains": HANGING}}
        await stage.sandbox.faults(hangs)
        await many_write(stage, HANGING, CONCURRENCY + 8)
        await stage.until(count_prompts, stage, HANGING, equals=SHARE)
        await stage.until(put_off, stage, stage.ours, equals=CONCURRENCY + 8 - SHARE)

        await stage.deliver(stage.said("hola", sender=customer(1), to=with_rules))
        await stage.deliver(stage.said("hola", sender=customer(2), to=with_model))
        await stage.until(stage.bodies, customer(1), equals=["Hola"])
        await stage.until(stage.bodies, customer(2), equals=["You said: hola"])
        assert await count_prompts(stage, HANGING) == SHARE
        assert await stage.count("conversations WHERE reply_due_at IS NOT NULL") == CONCURRENCY + 8


async def test_more_at_once_than_a_channels_share_are_all_answered_one_after_another(settings: Settings) -> None:
    count = 2 * SHARE + 2
    async with staged(settings, model(), reply_lease=5.0) as stage, stage.working(*EVERY):
        await stage.sandbox.faults({"provider": "openai", "action": "slow", "delay_ms": 700})
        await many_write(stage, "hola", count)
        await stage.until(stage.statuses, equals=["sent"] * count, within=60)
        asked = await prompts_with(stage, "hola")
        assert len(asked) == count, "a reply that found the bulkhead full has cost a call"
        assert await stage.owed() == 0


# -- which lane --------------------------------------------------------------------------------------------------------


async def depths(stage: Stage) -> tuple[int, int]:
    """Of `reply` and `reply.llm`."""
    return await stage.depth(topology.REPLY.name), await stage.depth(topology.REPLY_LLM.name)


@pytest.mark.parametrize(
    ("channel", "lanes"),
    [({}, (1, 0)), (RULES, (1, 0)), (model(), (0, 1))],
    ids=["no engine named", "rules", "a model"],
)
async def test_a_reply_waits_in_the_lane_of_its_channels_engine(
    settings: Settings, channel: dict[str, Any], lanes: tuple[int, int]
) -> None:
    async with staged(settings, channel, handoff_lease=60.0) as stage:
        async with stage.working("persist"):
            await stage.deliver(stage.said("hola"))
            await stage.until(depths, stage, equals=lanes)
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now()")
        async with stage.working("clock"):
            await stage.until(depths, stage, equals=(2 * lanes[0], 2 * lanes[1]))


async def test_the_clock_hands_on_replies_by_rules_while_many_wait_for_a_model(settings: Settings) -> None:
    async with staged(settings, model(), handoff_lease=60.0) as stage:
        with_rules = await stage.add_channel(RULES, address="+14155550001")
        waiting = worker.CROWDED + 10
        for _ in range(waiting):
            await stage.publisher.publish_body(topology.WORK, topology.REPLY_LLM.name, b"{}", message_id="", type_="")
        await stage.until(stage.depth, topology.REPLY_LLM.name, equals=waiting)
        await stage.converse(customer=customer(1))
        await stage.converse(customer=customer(2), ours=with_rules)
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now() - interval '1 second'")
        async with stage.working("clock"):
            await stage.until(depths, stage, equals=(1, waiting))


async def owed_conversation(stage: Stage) -> UUID | None:
    found: UUID | None = await stage.value("SELECT id FROM conversations WHERE reply_due_at IS NOT NULL")
    return found


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [(RULES, model(), "You said: hola"), (model(), RULES, "Hola")],
    ids=["rules before", "a model before"],
)
async def test_a_reply_that_waits_in_another_engines_lane_is_answered_by_the_channels_own(
    settings: Settings, before: dict[str, Any], after: dict[str, Any], answer: str
) -> None:
    async with staged(settings, before, handoff_lease=60.0) as stage:
        async with stage.working("persist"):
            await stage.deliver(stage.said("hola"))
            await stage.until(stage.owed, equals=1)
        await stage.configure(after)
        async with stage.working("reply", "window", "send"):  # and no clock, which would know better
            await stage.until(stage.bodies, CUSTOMER, equals=[answer])
            assert await owed_conversation(stage) is None


async def test_a_reply_asked_for_by_an_older_version_is_answered_too(settings: Settings) -> None:
    """Its message names no lane, so it came to the first one."""
    async with (
        staged(settings, model(debounce=60, longest_wait=60)) as stage,
        stage.working("persist", "reply", "window", "send"),
    ):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.owed, equals=1)
        conversation = await owed_conversation(stage)
        assert conversation is not None
        older = ReplyWanted(tenant_id=stage.ours.tenant_id, conversation_id=conversation)
        assert older.queue == topology.REPLY.name
        await stage.deliver(older)
        await stage.until(stage.bodies, equals=["You said: hola"])
