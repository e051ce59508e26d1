"""Outside the 24 hours: each policy, what is held and let go, and that nothing stays held while the window is open."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared.domain.model import Template
from shared.settings import Settings
from shared.store.messages import sends
from tests.support.stage import CUSTOMER, Stage, staged
from workers import window
from workers.persist import worker

LONG_AGO = timedelta(hours=25)
FALLBACK = {"name": "HX" + "2" * 32, "variables": {"1": "{contact_name}", "2": "{text}"}}
SILENT: dict[str, Any] = {"reply": {"engine": "none"}}


def channel(policy: str, **window: object) -> dict[str, Any]:
    return SILENT | {"window": {"policy": policy, "template": FALLBACK, **window}}


async def test_template_sends_the_fallback_with_its_variables_filled_and_records_it(settings: Settings) -> None:
    async with staged(settings, channel("template")) as stage, stage.working("window", "send"):
        message = await stage.owe(await stage.converse(last_message_ago=LONG_AGO), "Tu pedido\nestá listo")
        await stage.until(stage.status, message, equals="sent")
        (seen,) = await stage.accepted()
        assert (seen.content_sid, seen.body) == (FALLBACK["name"], "")
        assert json.loads(seen.content_variables or "") == {"1": "Ana", "2": "Tu pedido está listo"}
        row = await stage.message(message)
        assert row["sent_as"]["name"] == FALLBACK["name"]
        assert row["content"] == "Tu pedido\nestá listo"


async def test_template_without_a_fallback_fails_and_says_why(settings: Settings) -> None:
    async with staged(settings, {"window": {"policy": "template"}}) as stage, stage.working("window", "send"):
        message = await stage.owe(await stage.converse(last_message_ago=None), "hola")
        await stage.until(stage.status, message, equals="failed")
        row = await stage.message(message)
        assert row["error_code"] == "window_closed"
        assert "no fallback template" in row["error_message"]


async def test_fail_fails_with_a_code(settings: Settings) -> None:
    async with staged(settings, channel("fail")) as stage, stage.working("window", "send"):
        message = await stage.owe(await stage.converse(last_message_ago=LONG_AGO), "hola")
        await stage.until(stage.status, message, equals="failed")
        row = await stage.message(message)
        assert (row["error_code"], row["due_at"]) == ("window_closed", None)
        assert await stage.count("events WHERE name = 'message.failed'") == 1
        assert await stage.sandbox.messages() == ()


async def test_hold_waits_and_goes_out_in_order_when_the_customer_writes(settings: Settings) -> None:
    async with staged(settings, channel("hold")) as stage, stage.working("persist", "window", "send"):
        conversation = await stage.converse(last_message_ago=LONG_AGO)
        for n in range(5):
            await stage.owe(conversation, str(n))
        await stage.until(stage.statuses, equals=["held"] * 5)
        assert await stage.count("events WHERE name = 'message.held'") == 5
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.statuses, equals=["sent"] * 5)
        assert await stage.bodies() == ["0", "1", "2", "3", "4"]


async def test_a_held_message_lets_what_is_behind_it_pass_at_once(settings: Settings) -> None:
    """The template behind it was admitted first, and waits for the message before it to be decided on."""
    async with staged(settings, channel("hold"), handoff_lease=60.0) as stage, stage.working("send"):
        conversation = await stage.converse(last_message_ago=LONG_AGO)
        first = await stage.requested(conversation, "hola")
        second = await stage.requested(conversation, template=Template("HX" + "3" * 32))
        await window.admit([second], stage.context)
        await stage.until(stage.waiting, equals=0)
        await asyncio.sleep(0.5)
        assert await stage.statuses() == ["queued", "ready"]
        await window.admit([first], stage.context)
        await stage.until(stage.statuses, equals=["held", "sent"])


async def test_what_a_customer_wrote_25_hours_ago_lets_nothing_go(settings: Settings) -> None:
    async with staged(settings, channel("hold")) as stage, stage.working("persist", "window", "send", "clock"):
        message = await stage.owe(await stage.converse(last_message_ago=timedelta(hours=30)), "hola")
        await stage.until(stage.status, message, equals="held")
        await stage.deliver(stage.said("ayer", received_at=datetime.now(UTC) - LONG_AGO))
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=1)
        await stage.until(stage.waiting, equals=0)
        await asyncio.sleep(0.5)
        assert await stage.status(message) == "held"


async def test_the_message_has_its_own_policy_before_the_channels(settings: Settings) -> None:
    async with staged(settings, channel("fail")) as stage, stage.working("window", "send"):
        conversation = await stage.converse(last_message_ago=LONG_AGO)
        by_channel = await stage.owe(conversation, "1")
        held = await stage.owe(conversation, "2", window_policy="hold")
        as_template = await stage.owe(conversation, "3", window_policy="template")
        await stage.until(stage.status, as_template, equals="sent")
        assert await stage.status(by_channel) == "failed"
        assert await stage.status(held) == "held"


async def test_text_messages_know_no_window(settings: Settings) -> None:
    async with staged(settings, channel("fail"), kind="sms") as stage, stage.working("window", "send"):
        message = await stage.owe(await stage.converse(last_message_ago=None), "hola")
        await stage.until(stage.status, message, equals="sent")
        assert [seen.to for seen in await stage.sandbox.messages()] == [CUSTOMER]


async def test_a_held_message_expires(settings: Settings) -> None:
    async with staged(settings, channel("hold", hold_for=0.5)) as stage, stage.working("window", "clock"):
        message = await stage.owe(await stage.converse(last_message_ago=LONG_AGO), "hola")
        await stage.until(stage.status, message, equals="held")
        await stage.until(stage.status, message, equals="expired")
        assert (await stage.message(message))["due_at"] is None
        assert await stage.count("events WHERE name = 'message.expired'") == 1


async def test_a_message_keeps_its_own_expiry_while_it_is_held_and_after(settings: Settings) -> None:
    async with staged(settings, channel("hold", hold_for=3600)) as stage, stage.working("persist", "window", "clock"):
        soon = await stage.owe(
            await stage.converse(last_message_ago=LONG_AGO), "1", expires_at=datetime.now(UTC) + timedelta(seconds=0.7)
        )
        later = datetime.now(UTC) + timedelta(minutes=5)
        released = await stage.owe(
            await stage.converse(last_message_ago=LONG_AGO, customer="+34600000002"), "2", expires_at=later
        )
        await stage.until(stage.status, released, equals="held")
        await stage.until(stage.status, soon, equals="expired")
        await stage.deliver(stage.said("hola", sender="+34600000002"))
        await stage.until(stage.status, released, equals="ready")
        assert (await stage.message(released))["expires_at"] == later


async def test_the_clock_lets_go_what_is_held_in_an_open_window(settings: Settings) -> None:
    async with staged(settings, channel("hold")) as stage, stage.working("window", "send"):
        conversation = await stage.converse(last_message_ago=LONG_AGO)
        message = await stage.owe(conversation, "hola")
        await stage.until(stage.status, message, equals="held")
        await stage.pool.execute("UPDATE conversations SET last_user_message_at = now()")
        async with stage.working("clock"):
            await stage.until(stage.status, message, equals="sent")


async def test_a_window_that_closed_on_the_way_is_seen_at_the_call(settings: Settings) -> None:
    async with staged(settings, channel("hold")) as stage:
        conversation = await stage.converse(last_message_ago=timedelta(hours=1))
        message = await stage.owe(conversation, "hola")
        async with stage.working("window"):
            await stage.until(stage.status, message, equals="ready")
        await stage.pool.execute("UPDATE conversations SET last_user_message_at = now() - interval '24 hours'")
        async with stage.working("window", "send", "clock"):
            await stage.until(stage.status, message, equals="held")
        assert await stage.sandbox.messages() == ()


@pytest.mark.parametrize(("policy", "ends"), [("template", "sent"), ("hold", "held"), ("fail", "failed")])
async def test_the_providers_own_refusal_leads_to_the_same_policies(settings: Settings, policy: str, ends: str) -> None:
    """By our clock the window is open; the provider says 63016 and knows better."""
    async with staged(settings, channel(policy)) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.account(ACCOUNT_SID, AUTH_TOKEN, enforce_window=True, window_by="answer")
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals=ends)
        calls = await stage.sandbox.messages()
        assert [call.outcome for call in calls] == (["refused", "accepted"] if policy == "template" else ["refused"])
        if policy == "template":
            assert calls[1].content_sid == FALLBACK["name"]


async def test_a_refused_message_goes_when_the_customer_writes_again(settings: Settings) -> None:
    async with staged(settings, channel("hold")) as stage, stage.working("persist", "window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "error", "code": 63016, "times": 1})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="held")
        await stage.deliver(stage.said("¿sí?", received_at=datetime.now(UTC)))
        await stage.until(stage.status, message, equals="sent")


async def test_who_writes_while_the_provider_refuses_is_answered(settings: Settings) -> None:
    """The refusal is about the moment of the call; what the customer wrote since has opened the window."""
    async with staged(settings, channel("hold")) as stage:
        conversation = await stage.converse(last_message_ago=timedelta(hours=2))
        request = await stage.requested(conversation, "hola")
        await window.admit([request], stage.context)
        head = await sends.head(stage.pool, request.tenant_id, conversation, "normal")
        assert head is not None
        claim = await sends.claim(stage.pool, head, await stage.channel(), timedelta(seconds=10))
        await worker.persist([stage.said("¿sí?", received_at=datetime.now(UTC))], stage.context)
        async with stage.pool.acquire() as connection:
            assert await sends.window_closed(
                connection, request.tenant_id, request.message_id, claim, by_provider=True, code="63016"
            )
        await window.admit([request], stage.context)
        assert await stage.status(request.message_id) == "ready"


async def held_though_open(stage: Stage) -> int:
    return await stage.count(
        """messages m JOIN conversations c ON c.id = m.conversation_id
        WHERE m.status = 'held' AND c.last_user_message_at > now() - interval '1 hour'"""
    )


async def test_holding_and_the_customers_message_never_miss_each_other(settings: Settings) -> None:
    """Many times over: the window decides to hold just as the customer writes. No clock here to mend it."""
    async with staged(settings, channel("hold"), database_pool=6) as stage:
        for round_ in range(12):
            customers = [f"+3460{round_:03}{n:04}" for n in range(8)]
            conversations = [
                await stage.converse(last_message_ago=LONG_AGO, customer=customer) for customer in customers
            ]
            requests = [await stage.requested(conversation) for conversation in conversations]
            said = [stage.said("hola", sender=customer) for customer in customers]
            await asyncio.gather(
                *(window.admit([request], stage.context) for request in requests),
                *(worker.persist([webhook], stage.context) for webhook in said),
                *(worker.persist(said[::2], stage.context),),
            )
        assert await held_though_open(stage) == 0
        assert set(await stage.statuses()) <= {"ready", "queued"}
        assert len(await stage.statuses()) == 96


async def test_a_template_of_the_messages_own_is_not_replaced(settings: Settings) -> None:
    own = Template("HX" + "3" * 32, {"1": "x"})
    async with staged(settings, channel("template")) as stage, stage.working("window", "send"):
        message = await stage.owe(await stage.converse(last_message_ago=LONG_AGO), template=own)
        await stage.until(stage.status, message, equals="sent")
        assert [seen.content_sid for seen in await stage.accepted()] == [own.name]
        assert (await stage.message(message))["sent_as"] is None
