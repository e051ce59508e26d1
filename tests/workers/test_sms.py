"""SMS: sized before it leaves, refused where it is too long, and answers cut to what a channel lets them be."""

from datetime import UTC, datetime

from shared.domain.sms_segments import size
from shared.settings import Settings
from tests.support.stage import CUSTOMER, staged
from workers.persist import worker


async def test_a_text_is_counted_and_one_that_is_too_long_does_not_leave(settings: Settings) -> None:
    async with staged(settings, {"reply": {"engine": "none"}}, kind="sms") as stage:
        await worker.persist([stage.said("hola", extra={"NumSegments": "2"})], stage.context)
        assert await stage.value("SELECT metadata ->> 'NumSegments' FROM messages") == "2"
        conversation = await stage.value("SELECT id FROM conversations")
        async with stage.working("window", "send"):
            long = await stage.owe(conversation, "á" * 671)
            short = await stage.owe(conversation, "¿Qué día?", metadata={"engine": "rules"})
            await stage.until(stage.statuses, equals=["failed", "sent"])
        row = await stage.message(long)
        assert row["error_code"] == "too_long"
        assert "671 characters are 11 SMS" in row["error_message"]
        assert (await stage.message(short))["metadata"] == {
            "engine": "rules", "sms": {"segments": 1, "encoding": "ucs2"},
        }  # fmt: skip
        assert await stage.bodies() == ["¿Qué día?"]


async def test_an_answer_is_cut_to_the_channels_segments(settings: Settings) -> None:
    answer = "una paloma mensajera " * 50
    async with (
        staged(settings, {"reply": {"greeting": answer, "menu": [], "sms_segments": 2}}, kind="sms") as stage,
        stage.working("persist", "reply", "window", "send"),
    ):
        await stage.deliver(stage.said("hola", received_at=datetime.now(UTC)))
        await stage.until(stage.statuses, equals=["sent"])
        (body,) = await stage.bodies()
        assert size(body).segments == 2
        assert body.startswith("una paloma")
        assert body.endswith("...")


async def test_what_comes_by_rcs_is_the_sms_channels_and_answered_to_the_number(settings: Settings) -> None:
    async with (
        staged(settings, {"reply": {"greeting": "Hola", "menu": []}}, kind="sms") as stage,
        stage.working("persist", "reply", "window", "send"),
    ):
        rcs = {"From": f"rcs:{CUSTOMER}", "To": "rcs:tienda_x1y2_agent", "MessagingServiceSid": "MG" + "0" * 32}
        await stage.deliver(stage.said("hola", extra=rcs))
        await stage.until(stage.statuses, equals=["sent"])
        assert await stage.value("SELECT content FROM messages WHERE direction = 'inbound'") == "hola"
        (seen,) = await stage.sandbox.messages()
        assert seen.to == CUSTOMER
