"""A customer sees that they were read, and that a model's answer is being typed; the answer knows nothing of it."""

from typing import Any

from ops.sandbox.meta_forms import PHONE_NUMBER_ID
from ops.sandbox.observations import SeenRead
from ops.sandbox.openai import MODEL
from shared.settings import Settings
from tests.workers.test_meta_flow import ANA, LUIS, Open, opened

AT_ONCE: dict[str, Any] = {"reply": {"greeting": "Hi Ana", "menu": [], "read_receipts": True}}
THINKING: dict[str, Any] = {"reply": {"engine": "llm", "llm": {"model": MODEL}, "read_receipts": True}}
OF_READ_RECEIPTS = {"provider": "meta", "match": {"body_contains": "read receipt"}}


async def reads(door: Open) -> list[SeenRead]:
    return list(await door.stage.sandbox.meta_reads())


async def test_the_message_is_read_and_an_answer_is_typed_while_the_model_thinks(settings: Settings) -> None:
    async with opened(settings, THINKING) as door:
        await door.stage.sandbox.faults({"provider": "openai", "action": "slow", "delay_ms": 1500})
        await door.writes("hola")
        await door.stage.until(door.stage.statuses, equals=["read"])
        (read,) = await reads(door)
        asked = await door.stage.value("SELECT external_id FROM messages WHERE direction = 'inbound'")
        assert (read.phone_number_id, read.message_id) == (PHONE_NUMBER_ID, asked)
        assert (read.typing, read.outcome) == (True, "accepted")
        (answer,) = await door.stage.sandbox.messages(to=ANA)  # and it counts as no message
        assert read.received_at.monotonic < answer.received_at.monotonic


async def test_rules_are_not_seen_typing_and_a_read_receipt_that_hangs_costs_no_answer(settings: Settings) -> None:
    async with opened(settings, AT_ONCE) as door:
        await door.writes("hola")
        await door.stage.until(door.stage.statuses, equals=["read"])

        async def typing() -> list[bool]:
            return [read.typing for read in await reads(door)]

        await door.stage.until(typing, equals=[False])
        await door.stage.sandbox.faults(OF_READ_RECEIPTS | {"action": "hang", "seconds": 60})
        await door.writes("buenas", sender=LUIS)
        await door.stage.until(door.stage.statuses, equals=["read", "read"])
        assert await door.answers(LUIS) == [(PHONE_NUMBER_ID, "Hi Ana")]


async def test_a_token_that_may_send_and_not_mark_as_read_stops_nothing(settings: Settings) -> None:
    async with opened(settings, AT_ONCE) as door:
        await door.stage.sandbox.faults(OF_READ_RECEIPTS | {"action": "error", "status": 403, "code": 10})
        await door.writes("hola")
        await door.stage.until(door.stage.statuses, equals=["read"])

        async def codes() -> list[str | None]:
            return [read.code for read in await reads(door)]

        await door.stage.until(codes, equals=["10"])
        assert await door.stage.count("channels WHERE status = 'stopped'") == 0
        assert await door.stage.dead_letters() == {}


async def test_who_gets_no_answer_is_not_shown_as_read(settings: Settings) -> None:
    async with opened(settings, AT_ONCE) as door:
        await door.writes("STOP")
        await door.stage.until(door.stage.count, "consents", equals=1)  # the two may be kept in any order
        await door.writes("hola")  # which nothing answers
        await door.stage.until(door.stage.count, "messages WHERE role = 'user'", equals=2)
        await door.stage.until(door.stage.owed, equals=0)
        await door.writes("hola", sender=LUIS)
        await door.stage.until(door.stage.statuses, equals=["read"])
        await door.stage.pool.execute("UPDATE conversations SET status = 'escalated'")
        await door.writes("¿hay alguien?", sender=LUIS)
        await door.stage.until(door.stage.count, "messages WHERE role = 'user'", equals=4)
        await door.stage.until(door.stage.owed, equals=0)
        asked = await door.stage.value(
            "SELECT external_id FROM messages WHERE role = 'user' AND content = 'hola' ORDER BY created_at DESC LIMIT 1"
        )

        async def of() -> list[str]:
            return [read.message_id for read in await reads(door)]

        await door.stage.until(of, equals=[asked])
