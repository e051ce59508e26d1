"""Every handler, killed with -9 right after its commit: the work goes on within a lease, once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from ops.sandbox.receipts import Delays
from shared.settings import Settings
from tests.support.stage import Stage, staged

EVERY = ("persist", "reply", "window", "send", "clock")
LONG_AGO = timedelta(hours=25)
SILENT: dict[str, Any] = {"reply": {"engine": "none"}}
ONLY_SENT = Delays(sent=0.01, delivered=600, read=600)


@asynccontextmanager
async def dying(stage: Stage, moment: str, victim: str) -> AsyncIterator[None]:
    """All other workers are well; the one of this name ends at its first such moment. Then a healthy one takes over.

    The body brings the moment about.
    """
    others = tuple(name for name in EVERY if name != victim)
    async with stage.working(*others):
        process = await stage.start(moment, victim, module="tests.support.dying")
        try:
            yield
            async with asyncio.timeout(20):
                assert await process.wait() == -signal.SIGKILL
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def settled(stage: Stage, statuses: list[str]) -> None:
    """All is done as it should be, within leases of a second each, and nothing more comes."""
    await stage.until(stage.statuses, equals=statuses)
    await stage.until(stage.owed, equals=0)
    await stage.until(stage.waiting, equals=0)
    await asyncio.sleep(1.2)  # a lease later it is not published again
    assert await stage.statuses() == statuses
    assert await stage.dead_letters() == {}


async def test_persist_before_the_reply_is_asked_for(settings: Settings) -> None:
    async with staged(settings) as stage:
        async with dying(stage, "publishing", "persist"):
            await stage.deliver(stage.said("hola"))
        async with stage.working(*EVERY):
            await settled(stage, ["sent"])
        assert len(await stage.bodies()) == 1
        assert await stage.count("inbound_log") == 1


async def test_persist_before_what_was_held_goes_on(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        async with dying(stage, "publishing", "persist"):
            conversation = await stage.converse(last_message_ago=LONG_AGO)
            for text in ("1", "2", "3"):
                await stage.owe(conversation, text)
            await stage.until(stage.statuses, equals=["held"] * 3)
            await stage.deliver(stage.said("hola"))
        async with stage.working(*EVERY):
            await settled(stage, ["sent"] * 3)
        assert await stage.bodies() == ["1", "2", "3"]


async def test_persist_before_the_fallback_of_a_refusal_by_receipt_goes_on(settings: Settings) -> None:
    fallback = {"name": "HX" + "2" * 32, "variables": {}}
    async with staged(settings, SILENT | {"window": {"policy": "template", "template": fallback}}) as stage:
        async with dying(stage, "publishing", "persist"):
            message = await stage.owe(await stage.converse(), "hola")
            await stage.until(stage.status, message, equals="sent")
            sid = (await stage.message(message))["external_id"]
            await stage.deliver(stage.receipt(sid, "failed", message_id=message, error_code="63016"))
        async with stage.working(*EVERY):
            await settled(stage, ["failed", "sent"])
        assert [seen.content_sid for seen in await stage.accepted()] == [None, fallback["name"]]


async def test_reply_before_the_window_is_asked(settings: Settings) -> None:
    async with staged(settings) as stage:
        async with dying(stage, "publishing", "reply"):
            await stage.deliver(stage.said("hola"))
        async with stage.working(*EVERY):
            await settled(stage, ["sent"])
        assert len(await stage.bodies()) == 1


async def test_reply_while_it_thinks(settings: Settings) -> None:
    async with staged(settings) as stage:
        async with dying(stage, "thinking", "reply"):
            await stage.deliver(stage.said("hola"))
        async with stage.working(*EVERY):
            await settled(stage, ["sent"])
        assert len(await stage.bodies()) == 1


@pytest.mark.parametrize("moment", ["thought", "committing", "committed", "publishing", "published"])
async def test_reply_amid_a_batch(settings: Settings, moment: str) -> None:
    """Each customer of the batch gets one answer, whether or not the batch was committed."""
    customers = [f"+3460000{number:04}" for number in range(4)]
    async with staged(settings) as stage:
        async with dying(stage, moment, "reply"):
            await stage.deliver(*(stage.said("hola", sender=customer) for customer in customers))
        async with stage.working(*EVERY):
            await settled(stage, ["sent"] * 4)
        assert [len(await stage.bodies(customer)) for customer in customers] == [1] * 4
        assert await stage.count("conversations WHERE next_out_seq <> 2 OR reply_lease_id IS NOT NULL") == 0
        assert await stage.count("events WHERE name = 'message.queued'") == 4


@pytest.mark.parametrize("moment", ["committing", "committed", "publishing", "published"])
async def test_window_amid_a_batch(settings: Settings, moment: str) -> None:
    async with staged(settings, SILENT) as stage:
        async with dying(stage, moment, "window"):
            talks = [await stage.converse(customer=f"+3460000{number:04}") for number in range(3)]
            requests = [await stage.requested(talk, text) for talk in talks for text in ("1", "2")]
            closed = await stage.converse(customer="+34600000009", last_message_ago=LONG_AGO)
            requests.append(await stage.requested(closed, "later"))
            await stage.deliver(*requests)
        async with stage.working(*EVERY):
            await settled(stage, ["sent"] * 6 + ["held"])
        for number in range(3):
            assert await stage.bodies(f"+3460000{number:04}") == ["1", "2"]
        assert await stage.count("events WHERE name = 'message.held'") == 1


async def test_window_before_the_send_is_asked_for(settings: Settings) -> None:
    async with staged(settings) as stage:
        async with dying(stage, "publishing", "window"):
            conversation = await stage.converse()
            await stage.owe(conversation, "1")
            await stage.owe(conversation, "2")
        async with stage.working(*EVERY):
            await settled(stage, ["sent", "sent"])
        assert await stage.bodies() == ["1", "2"]


async def test_send_killed_between_claim_and_call_is_sent_anew_where_the_list_lacks_it(
    settings: Settings,
) -> None:
    async with staged(settings, send_timeout=0.5, send_lease_margin=0.5) as stage:
        async with dying(stage, "claimed", "send"):
            conversation = await stage.converse()
            await stage.owe(conversation, "1")
            await stage.owe(conversation, "2")
        async with stage.working(*EVERY):
            await settled(stage, ["failed", "sent", "sent"])
        assert sorted(await stage.bodies()) == ["1", "2"]
        assert await stage.count("messages WHERE error_code = 'resent'") == 1


async def test_send_between_its_claim_and_the_call_is_given_up_where_that_is_the_policy(settings: Settings) -> None:
    """This moment can't be distinguished from the next one, so the message is given up rather than sent twice."""
    leases: dict[str, Any] = {"send_timeout": 0.5, "send_lease_margin": 0.5, "unknown_give_up_after": 1.0}
    async with staged(settings, {"unknown": "give_up"}, **leases) as stage:
        async with dying(stage, "claimed", "send"):
            conversation = await stage.converse()
            await stage.owe(conversation, "1")
            await stage.owe(conversation, "2")
        async with stage.working(*EVERY):
            await settled(stage, ["failed", "sent"])
        assert await stage.bodies() == ["2"]
        assert await stage.count("events WHERE name = 'message.unknown'") == 1


async def test_send_between_the_answer_and_its_record_is_found_at_the_provider(settings: Settings) -> None:
    async with staged(settings, delays=ONLY_SENT, send_timeout=0.5, send_lease_margin=0.5) as stage:
        async with dying(stage, "answered", "send"):
            conversation = await stage.converse()
            await stage.owe(conversation, "1")
            await stage.owe(conversation, "2")
        async with stage.working(*EVERY):
            await settled(stage, ["sent", "sent"])
        assert await stage.bodies() == ["1", "2"]


async def test_send_after_its_record(settings: Settings) -> None:
    async with staged(settings) as stage:
        async with dying(stage, "recorded", "send"):
            conversation = await stage.converse()
            await stage.owe(conversation, "1")
            await stage.owe(conversation, "2")
        async with stage.working(*EVERY):
            await settled(stage, ["sent", "sent"])
        assert await stage.bodies() == ["1", "2"]


async def test_send_after_a_provider_asked_it_to_wait(settings: Settings) -> None:
    async with staged(settings) as stage:
        await stage.sandbox.faults({"provider": "twilio", "action": "429", "retry_after": 1, "times": 1})
        async with dying(stage, "recorded", "send"):
            await stage.owe(await stage.converse(), "hola")
        assert await stage.statuses() == ["ready"]
        async with stage.working(*EVERY):
            await settled(stage, ["sent"])
        assert await stage.bodies() == ["hola"]


async def test_send_after_the_provider_said_that_the_window_is_closed(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await stage.sandbox.faults({"provider": "twilio", "action": "error", "code": 63016, "times": 1})
        async with dying(stage, "recorded", "send"):
            await stage.owe(await stage.converse(), "hola")
        async with stage.working(*EVERY):
            await settled(stage, ["held"])
        assert await stage.bodies() == []


async def test_clock_before_it_tells_anybody(settings: Settings) -> None:
    async with staged(settings) as stage:
        async with dying(stage, "publishing", "clock"):
            request = await stage.requested(await stage.converse(), "hola")
            await stage.pool.execute("UPDATE messages SET due_at = now() WHERE id = $1", request.message_id)
        assert await stage.statuses() == ["queued"]
        assert await stage.value("SELECT due_at > now() - interval '20 seconds' FROM messages")
        async with stage.working(*EVERY):
            await settled(stage, ["sent"])
        assert await stage.bodies() == ["hola"]
