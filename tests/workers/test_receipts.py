"""Receipts only move a message forward, whenever and however often they come, and resolve what is unknown."""

import asyncio
import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store.messages import parked_receipts, sends
from tests.support.stage import Stage, staged
from workers import window
from workers.persist import worker

SID = "SM" + "7" * 32
FALLBACK = {"name": "HX" + "2" * 32, "variables": {"1": "{text}"}}
SILENT: dict[str, Any] = {"reply": {"engine": "none"}}


async def in_status(stage: Stage, status: str, *, external_id: str | None = SID) -> UUID:
    """A message of ours that has come as far as this."""
    request = await stage.requested(await stage.converse(last_message_ago=timedelta(hours=1)), "hola")
    await stage.pool.execute(
        "UPDATE messages SET status = $2, external_id = $3, due_at = now() + interval '1 hour' WHERE id = $1",
        request.message_id,
        status,
        external_id,
    )
    return request.message_id


async def deliver_receipts(stage: Stage, *webhooks: WebhookReceived) -> None:
    for webhook in webhooks:
        await worker.persist([webhook], stage.context)


@pytest.mark.parametrize("order", [*itertools.permutations(["sent", "delivered", "read"])], ids="-".join)
async def test_in_whatever_order_they_come_the_furthest_stands(settings: Settings, order: tuple[str, ...]) -> None:
    async with staged(settings) as stage:
        one_by_one, together = await in_status(stage, "sent"), await in_status(stage, "sent", external_id="SM1")
        await deliver_receipts(stage, *(stage.receipt(SID, word) for word in order))
        await worker.persist([stage.receipt("SM1", word) for word in order], stage.context)
        for message in (one_by_one, together):
            row = await stage.message(message)
            assert row["status"] == "read"
            assert None not in (row["sent_at"], row["delivered_at"], row["read_at"]), "each step keeps its time"
        assert await stage.count("message_statuses") == 6


async def test_a_repeated_receipt_is_one_row_and_tells_nobody_twice(settings: Settings) -> None:
    async with staged(settings) as stage:
        message = await in_status(stage, "sent")
        again = [stage.receipt(SID, "delivered", More=str(n)) for n in range(5)]
        await asyncio.gather(*(worker.persist([webhook], stage.context) for webhook in again))
        assert await stage.status(message) == "delivered"
        assert await stage.count("message_statuses") == 1
        assert await stage.count("events WHERE name = 'message.delivered'") == 1


@pytest.mark.parametrize(
    ("was", "word", "becomes", "moved"),
    [
        ("sent", "failed", "failed", True),
        ("sent", "undelivered", "failed", True),
        ("delivered", "failed", "delivered", False),
        ("read", "failed", "read", False),
        ("read", "delivered", "read", False),
        ("failed", "delivered", "delivered", True),
        ("failed", "sent", "failed", False),
        ("unknown", "delivered", "delivered", True),
        ("unknown", "queued", "sent", True),
        ("unknown", "failed", "failed", True),
        ("sending", "delivered", "delivered", True),
        ("ready", "sent", "sent", True),
        ("canceled", "delivered", "canceled", False),
        ("sent", "received", "sent", False),
        ("sent", "a new word of theirs", "sent", False),
    ],
)
async def test_a_receipt_moves_a_message_forward_or_is_only_kept(
    settings: Settings, was: str, word: str, becomes: str, moved: bool
) -> None:
    async with staged(settings) as stage:
        message = await in_status(stage, was)
        await deliver_receipts(stage, stage.receipt(SID, word, error_code="30003" if becomes == "failed" else None))
        row = await stage.message(message)
        assert row["status"] == becomes
        assert await stage.value("SELECT applied FROM message_statuses") is moved
        if moved:
            assert row["due_at"] is None
            assert row["error_code"] == ("30003" if becomes == "failed" else None)


async def test_one_that_comes_before_the_sends_own_record_is_found_by_our_id(settings: Settings) -> None:
    async with staged(settings, receipts=True) as stage, stage.working("persist", "window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 500, "accepted_first": True})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="read")
        before = await stage.message(message)
        await asyncio.sleep(0.7)  # now the answer to the call comes, late
        after = await stage.message(message)
        assert (after["status"], after["external_id"]) == ("read", before["external_id"])
        assert after["due_at"] is None
        assert len(await stage.sandbox.messages()) == 1
        assert await stage.count("message_statuses WHERE message_id IS NULL") == 0


async def test_one_without_our_id_waits_until_its_message_is_known(settings: Settings) -> None:
    async with staged(settings) as stage:
        await deliver_receipts(stage, stage.receipt(SID, "delivered"), stage.receipt(SID, "sent"))
        assert await stage.count("message_statuses WHERE message_id IS NULL") == 2
        message = await in_status(stage, "sending", external_id=None)
        await stage.pool.execute("UPDATE messages SET status = 'sent', external_id = $2 WHERE id = $1", message, SID)
        async with stage.working("clock"), stage.working("clock"):
            await stage.until(stage.status, message, equals="delivered")
            await stage.until(stage.count, "message_statuses WHERE message_id IS NULL", equals=0)
        assert await stage.count("events WHERE name = 'message.delivered'") == 1


async def test_one_is_looked_for_during_a_day_and_forgotten_with_the_webhooks(settings: Settings) -> None:
    async with staged(settings, inbound_log_days=10) as stage:
        for age, external_id in ((23, "SM1"), (25, "SM2"), (9 * 24, "SM3"), (11 * 24, "SM4")):
            await deliver_receipts(stage, stage.receipt(external_id, "delivered"))
            await stage.pool.execute(
                "UPDATE message_statuses SET received_at = now() - make_interval(hours => $2) WHERE external_id = $1",
                *(external_id, age),
            )
        assert await parked_receipts.count(stage.pool) == 1
        in_time, late = [await in_status(stage, "sent", external_id=name) for name in ("SM1", "SM2")]
        async with stage.working("clock"):
            await stage.until(stage.status, in_time, equals="delivered")
            await stage.until(stage.count, "message_statuses WHERE message_id IS NULL", equals=2)
        assert await stage.status(late) == "sent"
        parked = await stage.rows("SELECT external_id FROM message_statuses WHERE message_id IS NULL ORDER BY 1")
        assert [row["external_id"] for row in parked] == ["SM2", "SM3"]


async def test_one_that_never_finds_its_message_keeps_no_newer_one_from_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked_receipts, "PARKED_AT_ONCE", 3)
    async with staged(settings) as stage:
        await deliver_receipts(
            stage, *(stage.receipt(f"SM{n}", "delivered") for n in range(5)), stage.receipt(SID, "delivered")
        )
        message = await in_status(stage, "sent")
        async with stage.working("clock"):
            await stage.until(stage.status, message, equals="delivered")


async def test_one_resolves_an_unknown_send_by_our_id_alone(settings: Settings) -> None:
    async with staged(settings, unknown_check_after=60.0) as stage, stage.working("persist", "window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before"})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="unknown")
        await stage.deliver(stage.receipt(SID, "sent", message_id=message))
        await stage.until(stage.status, message, equals="sent")
        row = await stage.message(message)
        assert (row["external_id"], row["error_code"], row["due_at"]) == (SID, None, None)


async def test_one_for_a_message_about_to_be_sent_again_keeps_it_from_being_sent_twice(settings: Settings) -> None:
    """We took it for refused, and it had been accepted after all."""
    async with staged(settings) as stage, stage.working("persist", "window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "429", "retry_after": 1})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="ready")
        await stage.until(lambda: stage.value("SELECT attempts FROM messages"), equals=1)
        await stage.deliver(stage.receipt(SID, "delivered", message_id=message))
        await stage.until(stage.status, message, equals="delivered")
        await stage.sandbox.clear_faults()
        await asyncio.sleep(1.5)
        assert len(await stage.sandbox.messages()) == 1


async def test_another_tenants_receipt_moves_nothing(settings: Settings) -> None:
    async with staged(settings) as stage:
        message = await in_status(stage, "sent")
        other = await stage.add_channel()
        form = {"MessageSid": SID, "MessageStatus": "delivered", "From": "whatsapp:+14155238886"}
        await deliver_receipts(stage, stage.webhook(form, to=other, query=f"?m={message}", receipts=True))
        assert await stage.status(message) == "sent"
        assert await stage.count("message_statuses WHERE message_id IS NULL AND tenant_id = $1", other.tenant_id) == 1


# -- a receipt that says: the window was closed ------------------------------------------------------------------------


async def fallbacks(stage: Stage) -> list[asyncpg.Record]:
    return await stage.rows("SELECT * FROM messages WHERE dedupe_key LIKE 'fallback:%'")


@pytest.mark.parametrize(("policy", "ends"), [("template", "read"), ("hold", "held")])
async def test_63016_by_receipt_fails_the_row_and_makes_one_in_its_place(
    settings: Settings, policy: str, ends: str
) -> None:
    channel = SILENT | {"window": {"policy": policy, "template": FALLBACK}}
    async with staged(settings, channel, receipts=True) as stage, stage.working("persist", "window", "send", "clock"):
        await stage.sandbox.account(ACCOUNT_SID, AUTH_TOKEN, enforce_window=True, window_by="receipt")
        await stage.sandbox.faults({"provider": "twilio", "action": "receipts_repeated", "copies": 3})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="failed")
        assert (await stage.message(message))["error_code"] == "63016"
        await stage.until(stage.statuses, equals=["failed", ends])
        await stage.until(stage.waiting, equals=0)
        (fallback,) = await fallbacks(stage)
        assert fallback["dedupe_key"] == f"fallback:{message}"
        assert fallback["content"] == "hola"
        seen = await stage.accepted()
        assert [call.content_sid for call in seen] == ([None, FALLBACK["name"]] if policy == "template" else [None])


async def test_63016_by_receipt_three_times_and_in_other_words_makes_one_row(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        message = await in_status(stage, "sent")
        words = [
            stage.receipt(SID, word, error_code="63016", N=str(n))
            for n in range(3)
            for word in ("undelivered", "failed")
        ]
        await asyncio.gather(*(worker.persist([webhook], stage.context) for webhook in words))
        assert await stage.status(message) == "failed"
        assert len(await fallbacks(stage)) == 1


async def test_63016_by_receipt_makes_none_where_the_policy_is_to_fail(settings: Settings) -> None:
    async with staged(settings, SILENT | {"window": {"policy": "fail"}}) as stage:
        message = await in_status(stage, "sent")
        await deliver_receipts(stage, stage.receipt(SID, "failed", error_code="63016"))
        assert await stage.status(message) == "failed"
        assert await fallbacks(stage) == []


async def test_63016_after_delivery_makes_none(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        message = await in_status(stage, "delivered")
        await deliver_receipts(stage, stage.receipt(SID, "failed", error_code="63016"))
        assert await stage.status(message) == "delivered"
        assert await fallbacks(stage) == []


async def test_63016_of_a_template_makes_none(settings: Settings) -> None:
    """The window does not bind a template: another try would fail likewise."""
    async with staged(settings, SILENT) as stage:
        message = await in_status(stage, "sent")
        await stage.pool.execute("UPDATE messages SET sent_as = $1", {"name": "HX1", "variables": {}, "language": None})
        await deliver_receipts(stage, stage.receipt(SID, "failed", error_code="63016"))
        assert await stage.status(message) == "failed"
        assert await fallbacks(stage) == []


async def test_63016_that_was_parked_leads_to_the_fallback_too(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await deliver_receipts(stage, stage.receipt(SID, "failed", error_code="63016"))
        await in_status(stage, "sent")
        async with stage.working("clock", "window"):
            await stage.until(stage.statuses, equals=["failed", "held"])
        assert len(await fallbacks(stage)) == 1


async def test_a_customer_who_wrote_between_the_send_and_its_refusal_gets_the_text(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        conversation = await stage.converse(last_message_ago=timedelta(hours=2))
        request = await stage.requested(conversation, "hola")
        await window.admit([request], stage.context)
        head = await sends.head(stage.pool, request.tenant_id, conversation, "normal")
        assert head is not None
        claim = await sends.claim(stage.pool, head, await stage.channel(), timedelta(seconds=10))
        async with stage.pool.acquire() as connection:
            await sends.sent(connection, request.tenant_id, request.message_id, claim, SID)
        now = await stage.value("SELECT clock_timestamp()")
        await deliver_receipts(stage, stage.said("¿sí?", received_at=now))
        refused = stage.receipt(SID, "failed", error_code="63016", received_at=now + timedelta(seconds=2))
        async with stage.working("window"):
            await deliver_receipts(stage, refused)
            await stage.until(stage.statuses, equals=["failed", "ready"])
