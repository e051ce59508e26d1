"""A customer gets one answer to what they wrote: not one a message, and not two from two workers."""

import asyncio
import random
import time
from typing import Any

from ops.sandbox.openai import MODEL
from shared.domain import loop_guard
from shared.queue.jobs import ReplyWanted
from shared.settings import Settings
from tests.support.stage import Stage, staged

OTHER_CUSTOMER = "+34600000002"
EVERY = ("persist", "reply", "window", "send", "clock")


def rules(**reply: object) -> dict[str, Any]:
    return {"reply": {"engine": "rules", "greeting": "Hola", "menu": [], **reply}}


def model(**reply: object) -> dict[str, Any]:
    return {"reply": {"engine": "llm", "llm": {"model": MODEL, "timeout": 5}, "fallback": "Ya te escribimos.", **reply}}


async def thinking(stage: Stage, milliseconds: int, **more: object) -> None:
    await stage.sandbox.faults({"provider": "openai", "action": "slow", "delay_ms": milliseconds, **more})


async def asked(stage: Stage) -> list[list[str]]:
    """What the customer had said in each prompt."""
    prompts = await stage.sandbox.completions()
    return [[turn.content for turn in prompt.messages if turn.role == "user"] for prompt in prompts]


async def count_asked(stage: Stage) -> int:
    return len(await asked(stage))


async def test_several_messages_in_a_row_get_one_answer_after_a_moment_of_quiet(settings: Settings) -> None:
    async with staged(settings, model(debounce=1.5)) as stage, stage.working(*EVERY):
        for number, text in enumerate(("hola", "una pregunta", "¿abrís hoy?"), start=1):  # stored in this order
            await stage.deliver(stage.said(text))
            await stage.until(
                stage.count, "messages WHERE role = 'user'", equals=number
            )  # in the order of their webhooks
        await stage.until(stage.statuses, equals=["sent"])
        assert await asked(stage) == [["hola\nuna pregunta\n¿abrís hoy?"]]
        await asyncio.sleep(2.0)
        assert len(await stage.bodies()) == 1


async def test_the_model_reads_where_a_customer_is_and_what_they_tapped(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY):
        place = {"Latitude": "19.4326", "Longitude": "-99.1332", "Label": "Casa", "MessageType": "location"}
        await stage.deliver(stage.said("", extra=place))
        await stage.until(stage.statuses, equals=["sent"])
        await stage.deliver(stage.said("", extra={"ButtonPayload": "yes", "MessageType": "button"}))
        await stage.until(stage.statuses, equals=["sent", "sent"])
        assert (await asked(stage))[-1] == ["Casa\n19.4326, -99.1332", "yes"]


async def test_the_quiet_is_waited_for_no_longer_than_the_longest_wait(settings: Settings) -> None:
    async with staged(settings, rules(debounce=1.0, longest_wait=1.5)) as stage, stage.working(*EVERY):
        started = time.monotonic()
        while not await stage.bodies():
            assert time.monotonic() - started < 30, "it waits for a quiet that does not come"
            await stage.deliver(stage.said("y otra cosa"))
            await asyncio.sleep(0.3)
        assert time.monotonic() - started > 1.2


async def test_what_arrives_while_the_model_thinks_voids_its_answer(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY):
        await thinking(stage, 800)
        await stage.deliver(stage.said("hola"))
        await stage.until(count_asked, stage, equals=1)
        await stage.deliver(stage.said("¿abrís hoy?"))
        await stage.until(stage.statuses, equals=["sent"])
        await stage.until(stage.owed, equals=0)
        assert await asked(stage) == [["hola"], ["hola\n¿abrís hoy?"]]
        await asyncio.sleep(1.2)
        assert len(await stage.bodies()) == 1


async def being_answered(stage: Stage) -> int:
    return await stage.count("conversations WHERE reply_lease_id IS NOT NULL")


async def test_what_arrives_while_the_model_thinks_waits_for_quiet_like_the_first(settings: Settings) -> None:
    async with staged(settings, model(debounce=3, longest_wait=60)) as stage, stage.working(*EVERY):
        await thinking(stage, 1000, times=1)
        await stage.deliver(stage.said("hola"))
        await stage.until(count_asked, stage, equals=1)
        await stage.deliver(stage.said("una pregunta"))
        await stage.until(being_answered, stage, equals=0)  # the answer was void
        assert await stage.owed() == 1
        await stage.deliver(stage.said("¿abrís hoy?"))
        await stage.until(stage.statuses, equals=["sent"])
        assert await asked(stage) == [["hola"], ["hola\nuna pregunta\n¿abrís hoy?"]]


async def test_a_void_answer_waits_for_quiet_no_longer_than_the_longest_wait(settings: Settings) -> None:
    async with staged(settings, model(debounce=60, longest_wait=2)) as stage, stage.working(*EVERY):
        await thinking(stage, 1000, times=1)
        await stage.deliver(stage.said("hola"))
        await stage.until(count_asked, stage, equals=1)
        await stage.deliver(stage.said("¿abrís hoy?"))
        await stage.until(stage.statuses, equals=["sent"], within=30)
        assert await asked(stage) == [["hola"], ["hola\n¿abrís hoy?"]]


async def test_two_workers_answer_one_conversation_once(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY), stage.working("reply"):
        await thinking(stage, 500)
        await stage.deliver(stage.said("hola"))
        conversation = None
        while conversation is None:
            conversation = await stage.value("SELECT id FROM conversations")
        wanted = ReplyWanted(tenant_id=stage.ours.tenant_id, conversation_id=conversation)
        for _ in range(10):
            await stage.deliver(wanted, wanted)
        await stage.until(stage.statuses, equals=["sent"])
        await stage.deliver(wanted)
        await stage.until(stage.waiting, equals=0)
        assert await count_asked(stage) == 1
        assert len(await stage.bodies()) == 1


async def test_a_model_that_thinks_longer_than_the_lease_keeps_it(settings: Settings) -> None:
    async with staged(settings, model(), reply_lease=0.6) as stage, stage.working(*EVERY), stage.working("reply"):
        await thinking(stage, 2000)
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.statuses, equals=["sent"])
        assert await count_asked(stage) == 1


async def test_a_worker_killed_while_the_model_thinks_is_replaced_after_the_lease(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working("persist", "window", "send", "clock"):
        await thinking(stage, 5000, times=1)
        async with stage.running("reply") as process:
            await stage.deliver(stage.said("hola"))
            await stage.until(count_asked, stage, equals=1)
            process.kill()
        async with stage.working("reply"):
            await stage.until(stage.statuses, equals=["sent"], within=8)
        assert await count_asked(stage) == 2
        assert len(await stage.bodies()) == 1


async def test_each_question_gets_its_answer_when_they_come_one_by_one(settings: Settings) -> None:
    async with staged(settings, rules()) as stage, stage.working(*EVERY):
        for n in range(1, 5):
            await stage.deliver(stage.said(f"pregunta {n}"))
            await stage.until(stage.statuses, equals=["sent"] * n)
        assert await stage.count("messages WHERE dedupe_key LIKE 'reply:%'") == 4


async def test_however_messages_and_answers_interleave_the_last_word_is_ours(settings: Settings) -> None:
    """Twenty customers write five times each at random while two workers answer: all of them get an answer."""
    dice = random.Random(11)
    async with staged(settings, rules()) as stage, stage.working(*EVERY), stage.working("reply", "persist"):

        async def customer(number: int) -> None:
            for text in "12345":
                await stage.deliver(stage.said(text, sender=f"+34600{number:06}"))
                await asyncio.sleep(dice.uniform(0, 0.15))

        await asyncio.gather(*(customer(number) for number in range(20)))
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=100)
        await stage.until(stage.owed, equals=0)
        assert await stage.count("conversations WHERE answered_count <> user_message_count") == 0
        unanswered = """conversations c WHERE (SELECT role FROM messages WHERE conversation_id = c.id
            ORDER BY created_at DESC LIMIT 1) <> 'assistant'"""
        assert await stage.count(unanswered) == 0
        assert 20 <= len(await stage.statuses()) <= 100


async def test_a_model_that_fails_leads_to_the_channels_fallback(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY):
        await stage.sandbox.faults({"provider": "openai", "action": "5xx"})
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.statuses, equals=["sent"])
        assert await stage.bodies() == ["Ya te escribimos."]
        assert await stage.value("SELECT metadata->>'outcome' FROM messages WHERE direction = 'outbound'") == "fallback"


async def test_a_machine_that_says_the_same_again_and_again_is_not_answered_for_ever(settings: Settings) -> None:
    async with staged(settings, rules()) as stage, stage.working(*EVERY):
        for number in range(loop_guard.MOST_REPEATS + 2):
            await stage.deliver(stage.said("Gracias por su mensaje, le contestaremos pronto."))
            await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=number + 1)
            await stage.until(stage.owed, equals=0)
        assert await stage.count("messages WHERE direction = 'outbound'") == loop_guard.MOST_REPEATS - 1
        await stage.deliver(stage.said("hola", sender=OTHER_CUSTOMER))
        await stage.until(stage.count, "messages WHERE direction = 'outbound'", equals=loop_guard.MOST_REPEATS)


async def test_a_person_who_says_the_same_short_word_all_the_time_is_answered(settings: Settings) -> None:
    async with staged(settings, rules()) as stage, stage.working(*EVERY):
        for number in range(loop_guard.MOST_REPEATS + 2):
            await stage.deliver(stage.said("menú"))
            await stage.until(stage.count, "messages WHERE direction = 'outbound'", equals=number + 1)
            await stage.until(stage.owed, equals=0)


async def test_a_channel_without_an_engine_answers_nothing(settings: Settings) -> None:
    async with staged(settings, {"reply": {"engine": "none"}}) as stage, stage.working(*EVERY):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.count, "messages", equals=1)
        await stage.until(stage.waiting, equals=0)
        assert await stage.owed() == 0
        assert await stage.bodies() == []


async def test_an_engine_taken_away_meanwhile_leaves_nothing_owed(settings: Settings) -> None:
    async with staged(settings, rules(debounce=2)) as stage, stage.working(*EVERY):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.owed, equals=1)
        await stage.configure({"reply": {"engine": "none"}})
        await stage.until(stage.owed, equals=0)
        assert await stage.count("messages") == 1


async def test_a_conversation_escalated_while_the_model_thinks_is_left_to_the_person(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY):
        await thinking(stage, 600)
        await stage.deliver(stage.said("quiero hablar con alguien"))
        await stage.until(count_asked, stage, equals=1)
        await stage.pool.execute("UPDATE conversations SET status = 'escalated'")
        await stage.until(stage.owed, equals=0)
        await stage.until(stage.waiting, equals=0)
        assert await stage.count("messages") == 1


async def test_an_old_message_that_arrives_late_is_answered_by_what_the_window_allows(settings: Settings) -> None:
    """Spooled for a day: the answer is made, and waits, as the window is closed."""
    async with staged(settings, rules()) as stage, stage.working(*EVERY):
        day_old = await stage.value("SELECT now() - interval '25 hours'")
        await stage.deliver(stage.said("hola", received_at=day_old))
        await stage.until(stage.statuses, equals=["held"])
        assert await stage.bodies() == []


async def test_who_has_opted_out_costs_no_model_call_until_they_opt_in_again(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY):
        await stage.deliver(stage.said("stop"))
        await stage.until(stage.count, "consents", equals=1)
        await stage.deliver(stage.said("¿abrís hoy?"))
        await stage.until(stage.count, "messages WHERE content = '¿abrís hoy?'", equals=1)
        await stage.until(stage.owed, equals=0)
        assert (await asked(stage), await stage.statuses()) == ([], [])

        await stage.deliver(stage.said("start"))
        await stage.until(stage.statuses, equals=["sent"])
        assert await asked(stage) == [["stop\n¿abrís hoy?\nstart"]]
        assert await stage.dead_letters() == {}


async def test_a_stop_while_the_model_thinks_is_the_end_of_it(settings: Settings) -> None:
    async with staged(settings, model()) as stage, stage.working(*EVERY):
        await thinking(stage, 700)
        await stage.deliver(stage.said("hola"))
        await stage.until(count_asked, stage, equals=1)
        await stage.deliver(stage.said("stop"))
        await stage.until(stage.owed, equals=0)
        assert (await count_asked(stage), await stage.statuses()) == (1, [])
