"""After an opt-out nothing is sent, on any path: by the customer's word or the provider's, in whatever order."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.domain.model import Template
from shared.settings import Settings
from shared.store import consents
from shared.store.consents import Entry
from shared.store.messages import sends
from tests.support.meta_payloads import CUSTOMER as META_CUSTOMER
from tests.support.meta_payloads import entry, value
from tests.support.meta_stage import add_app, add_number, posted
from tests.support.stage import Ours, Stage, staged
from workers import window
from workers.persist import worker

SILENT: dict[str, Any] = {"reply": {"engine": "none"}}
ONE_SPELLING, THE_OTHER = "+5215512345678", "+525512345678"
NUMBER = "106540352242922"


async def customer_writes(
    stage: Stage, text: str, *, to: Ours | None = None, sender: str = ONE_SPELLING, **more: Any
) -> None:
    """A customer's message, now unless it says otherwise."""
    said = stage.said(text, to=to, sender=sender, **({"received_at": datetime.now(UTC)} | more))
    await worker.persist([said], stage.context)


async def talk(stage: Stage, ours: Ours | None = None) -> UUID:
    """The conversation on a channel."""
    found: UUID = await stage.value("SELECT id FROM conversations WHERE channel_id = $1", (ours or stage.ours).id)
    return found


async def ends(stage: Stage, conversation: UUID, **more: Any) -> tuple[str, str | None]:
    """What becomes of a message of ours: its status and code, once the window and the provider have had it."""
    message = await stage.owe(conversation, "hola", **more)
    async with stage.working("window", "send"):
        await stage.until(unfinished, stage, message, equals=0)
    row = await stage.message(message)
    return row["status"], row["error_code"]


async def unfinished(stage: Stage, message: UUID) -> int:
    return await stage.count("messages WHERE id = $1 AND status IN ('queued', 'ready', 'sending')", message)


async def ledger(stage: Stage) -> list[tuple[str, str, str, str]]:
    rows = await stage.rows("SELECT channel_kind, scope, state, source FROM consents ORDER BY effective_at")
    return [tuple(row) for row in rows]


async def test_stop_in_one_spelling_of_a_number_stops_a_queued_reply_to_the_other(
    settings: Settings,
) -> None:
    async with staged(settings, SILENT) as stage:
        second = await stage.add_channel(SILENT, beside=stage.ours, address="+14155230000")
        sms = await stage.add_channel(SILENT, beside=stage.ours, kind="sms")
        await customer_writes(stage, "hola")
        await customer_writes(stage, "hola", to=sms)
        queued = await stage.requested(await talk(stage), "1")
        behind = await stage.requested(await talk(stage), "2")
        await customer_writes(stage, "¡Stop!", to=second, sender=THE_OTHER)
        async with stage.working("window", "send"):
            await stage.deliver(queued, behind)
            await stage.until(stage.statuses, equals=["failed", "failed"])
        assert await stage.sandbox.messages() == ()
        row = await stage.message(queued.message_id)
        assert (row["error_code"], row["due_at"]) == ("opted_out", None)
        assert "opted out" in row["error_message"]
        assert await ends(stage, await talk(stage, sms), channel_id=sms.id) == ("sent", None), "SMS is another kind"
        await customer_writes(stage, "start")
        assert await ends(stage, await talk(stage)) == ("sent", None)
        assert await ledger(stage) == [
            ("whatsapp", "all", "opted_out", "message"), ("whatsapp", "all", "opted_in", "message"),
        ]  # fmt: skip
        events = await stage.rows(
            "SELECT name, detail, contact_id FROM events WHERE name LIKE 'consent.%' ORDER BY seq"
        )
        assert [row["name"] for row in events] == ["consent.opted_out", "consent.opted_in"]
        assert events[0]["contact_id"] == await stage.value("SELECT id FROM contacts")
        assert "5512345678" not in str([dict(row) for row in events])
        assert "stop" not in str(events[0]["detail"]).lower()


async def test_who_opts_out_after_the_window_is_not_sent_to(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await customer_writes(stage, "hola")
        conversation = await talk(stage)
        request = await stage.requested(conversation, "1")
        await window.admit([request], stage.context)
        head = await sends.head(stage.pool, request.tenant_id, conversation, "normal")
        assert head is not None
        assert head.stopped_by is None
        await customer_writes(stage, "baja")
        assert await sends.claim(stage.pool, head, await stage.channel(), timedelta(seconds=10)) is None, (
            "read before, claimed after"
        )
        async with stage.working("send"):
            await stage.deliver(stage.admitted(conversation, request.message_id))
            await stage.until(stage.status, request.message_id, equals="failed")
        assert (await stage.message(request.message_id))["error_code"] == "opted_out"
        assert await stage.count("events WHERE name = 'message.failed'") == 1
        assert await stage.sandbox.messages() == ()


async def test_the_answer_21610_is_kept_once_though_a_receipt_repeats_it(settings: Settings) -> None:
    async with staged(settings, SILENT, kind="sms") as stage:
        await customer_writes(stage, "hola")
        conversation = await talk(stage)
        await stage.sandbox.faults({"provider": "twilio", "action": "error", "code": 21610, "times": 1})
        assert await ends(stage, conversation) == ("failed", "21610")
        assert await ledger(stage) == [("sms", "all", "opted_out", "provider")]
        refused = await stage.value("SELECT id FROM messages WHERE direction = 'outbound'")
        receipt = stage.receipt("SM1", "failed", message_id=refused, error_code="21610")
        await worker.persist([receipt], stage.context)
        assert await ledger(stage) == [("sms", "all", "opted_out", "provider")]
        row = await stage.row("SELECT evidence FROM consents")
        assert (row["evidence"]["error_code"], row["evidence"]["refused_message"]) == ("21610", str(refused))
        assert await ends(stage, conversation) == ("failed", "opted_out")
        assert len(await stage.sandbox.messages()) == 1
        await customer_writes(stage, "Yes")
        assert await ends(stage, conversation) == ("sent", None)


async def test_who_blocks_the_sender_by_receipt_is_written_to_again_once_they_write(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await customer_writes(stage, "hola")
        conversation = await talk(stage)
        assert await ends(stage, conversation) == ("sent", None)
        row = await stage.row("SELECT id, external_id FROM messages WHERE direction = 'outbound'")
        receipt = stage.receipt(
            row["external_id"],
            "undelivered",
            error_code="63014",
            received_at=datetime.now(UTC),
            To=f"whatsapp:{THE_OTHER}",
        )
        await worker.persist([receipt, receipt], stage.context)
        assert await ledger(stage) == [("whatsapp", "blocked", "opted_out", "provider")]
        assert await stage.value("SELECT evidence ->> 'inbound_id' FROM consents") == receipt.inbound_id
        assert await ends(stage, conversation) == ("failed", "opted_out")
        await customer_writes(stage, "ya está")
        assert await ends(stage, conversation) == ("sent", None)


async def test_what_comes_twice_is_one_entry_and_what_comes_late_does_not_override(settings: Settings) -> None:
    async with staged(settings, SILENT, kind="sms") as stage:
        at = datetime.now(UTC) - timedelta(minutes=5)
        stop = stage.said("STOP", sid="SM1", received_at=at, extra={"OptOutType": "STOP"})
        again = stage.said(
            "STOP", sid="SM1", received_at=at + timedelta(minutes=1), extra={"OptOutType": "STOP", "A": "1"}
        )
        start = stage.said("START", sid="SM2", received_at=at + timedelta(minutes=2), extra={"OptOutType": "START"})
        await worker.persist([start], stage.context)
        await worker.persist([stop, stop], stage.context)
        await worker.persist([again], stage.context)
        await worker.persist([stop.model_copy(update={"replayed": True})], stage.context)
        assert await ledger(stage) == [("sms", "all", "opted_out", "message"), ("sms", "all", "opted_in", "message")]
        assert await stage.value("SELECT min(effective_at) FROM consents") == at
        assert await stage.count("events WHERE name LIKE 'consent.%'") == 2
        customer = (await stage.row("SELECT id, recipient FROM conversations"))["id"]
        assert await ends(stage, customer) == ("sent", None), "the START is the later one, though it came first"


OUT, IN = "opted_out", "opted_in"
# Entries as (scope, state, minute), in the order in which they are written, and what holds; the customer last wrote in
# minute 3.
HOLDING: tuple[tuple[tuple[tuple[Any, Any, int], ...], str | None], ...] = (
    ((), None),
    ((("all", OUT, 1),), "all"),
    ((("all", OUT, 1), ("all", IN, 2)), None),
    ((("all", IN, 2), ("all", OUT, 1)), None),
    ((("all", OUT, 2), ("all", IN, 1)), "all"),
    ((("all", OUT, 1), ("all", IN, 1)), "all"),
    ((("all", IN, 1), ("all", OUT, 1)), "all"),
    ((("all", OUT, 1), ("marketing", IN, 2)), "all"),
    ((("marketing", OUT, 2),), None),
    ((("blocked", OUT, 2),), None),
    ((("blocked", OUT, 4),), "blocked"),
    ((("blocked", OUT, 4), ("blocked", IN, 5)), None),
    ((("blocked", OUT, 4), ("all", OUT, 1)), "all"),
)


async def test_of_each_scope_the_newest_entry_holds(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        start = datetime.now(UTC) - timedelta(hours=1)
        for number, (entries, holds) in enumerate(HOLDING):
            conversation = await stage.converse(customer=f"+346000001{number:02}")
            await stage.pool.execute(
                "UPDATE conversations SET last_user_message_at = $2 WHERE id = $1",
                conversation,
                start + timedelta(minutes=3),
            )
            contact = await stage.value("SELECT contact_id FROM conversations WHERE id = $1", conversation)
            await stage.requested(conversation)
            async with stage.pool.acquire() as connection, connection.transaction():
                for scope, state, minute in entries:
                    at = start + timedelta(minutes=minute)
                    entry = Entry(stage.ours.tenant_id, contact, "whatsapp", state, "api", at, scope)
                    assert await consents.add(connection, [entry]) == [entry]
            head = await sends.head(stage.pool, stage.ours.tenant_id, conversation, "normal")
            assert head is not None
            assert head.stopped_by == holds, entries


# Entries as (contact, state, minute, source) where the conversation is A's and its address B's, and whether it stops.
OF_TWO: tuple[tuple[tuple[tuple[str, Any, int, Any], ...], str | None], ...] = (
    ((("B", OUT, 1, "message"), ("A", IN, 2, "api")), "all"),
    ((("A", OUT, 1, "message"), ("B", IN, 2, "api")), "all"),
    ((("B", OUT, 1, "message"), ("A", IN, 2, "message")), None),
    ((("A", OUT, 1, "message"), ("B", IN, 2, "provider")), None),
    ((("B", OUT, 1, "message"), ("A", IN, 1, "message")), "all"),
    ((("B", OUT, 2, "message"), ("A", IN, 1, "message"), ("A", IN, 3, "api")), "all"),
    ((("B", OUT, 1, "message"), ("A", IN, 2, "message"), ("A", IN, 3, "api")), None),
    ((("B", OUT, 1, "message"), ("B", IN, 2, "api"), ("A", IN, 3, "api")), None),
    ((("A", OUT, 1, "message"), ("B", IN, 2, "message"), ("B", OUT, 3, "message")), "all"),
)


async def test_of_two_contacts_neither_lifts_the_others_opt_out_but_by_their_own_word(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        start = datetime.now(UTC) - timedelta(hours=1)
        for number, (entries, stops) in enumerate(OF_TWO):
            conversation = await stage.converse(customer=f"+346000002{number:02}")
            of_address = await stage.value("SELECT contact_id FROM conversations WHERE id = $1", conversation)
            another = await stage.value(
                "INSERT INTO contacts (tenant_id) VALUES ($1) RETURNING id", stage.ours.tenant_id
            )
            await stage.pool.execute(
                "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) "
                "SELECT tenant_id, 'phone', address, address, contact_id FROM conversations WHERE id = $1",
                conversation,
            )
            await stage.pool.execute("UPDATE conversations SET contact_id = $2 WHERE id = $1", conversation, another)
            of = {"A": another, "B": of_address}
            async with stage.pool.acquire() as connection, connection.transaction():
                for who, state, minute, source in entries:
                    at = start + timedelta(minutes=minute)
                    await consents.add(
                        connection, [Entry(stage.ours.tenant_id, of[who], "whatsapp", state, source, at)]
                    )
            await stage.requested(conversation)
            head = await sends.head(stage.pool, stage.ours.tenant_id, conversation, "normal")
            assert head is not None
            assert head.stopped_by == stops, entries


async def test_metas_marketing_switch_stops_campaigns_and_templates_and_no_answer(settings: Settings) -> None:
    async with staged(settings) as stage:
        app = await add_app(stage)
        stage.ours = ours = await add_number(stage, app, NUMBER, channel=SILENT)
        before = datetime.now(UTC) - timedelta(hours=1)

        async def switched(word: str, minutes: int) -> None:
            item = {
                "wa_id": META_CUSTOMER, "category": "marketing_messages", "value": word,
                "timestamp": str(int((before + timedelta(minutes=minutes)).timestamp())),
            }  # fmt: skip
            webhook = entry(value(user_preferences=[item], phone_number_id=NUMBER), field="user_preferences")
            await worker.persist([posted(stage, app, webhook), posted(stage, app, webhook, webhook)], stage.context)

        await switched("stop", 0)
        assert await ledger(stage) == [("whatsapp", "marketing", "opted_out", "provider")]
        contact = await stage.row("SELECT id, tenant_id FROM contacts")
        assert contact["tenant_id"] == ours.tenant_id, "who never wrote is known from now on"
        await stage.pool.execute(
            "INSERT INTO message_templates (tenant_id, name, category) VALUES ($1, 'offer', 'MARKETING')",
            ours.tenant_id,
        )
        conversation = await stage.converse(customer="+" + META_CUSTOMER)
        await stage.pool.execute("UPDATE conversations SET contact_id = $1", contact["id"])

        async def admitted(**more: Any) -> str:
            request = await stage.requested(conversation, "hola", **more)
            await window.admit([request], stage.context)
            return await stage.status(request.message_id)

        assert await admitted() == "ready"
        assert await admitted(template=Template("receipt")) == "ready"
        assert await admitted(template=Template("offer")) == "failed"
        assert await admitted(lane="bulk") == "failed"
        await stage.pool.execute("UPDATE message_templates SET deleted_at = now()")
        assert await admitted(template=Template("offer")) == "failed", "what was marketing when it was written is still"
        await switched("resume", 10)
        assert await admitted(template=Template("offer")) == "ready"
        assert await admitted(lane="bulk") == "ready"
        await switched("stop", 5)
        assert await admitted(lane="bulk") == "ready", "reported late, it was before the customer resumed"


async def test_stop_promotions_stops_campaigns_and_the_menu_and_no_answers(
    settings: Settings,
) -> None:
    async with staged(settings, {"reply": {"greeting": "Hola", "menu": []}}) as stage:
        await customer_writes(stage, "hola")
        conversation = await talk(stage)
        await stage.pool.execute("UPDATE conversations SET reply_due_at = NULL, reply_wanted_since = NULL")
        for number, button in enumerate(("Stop promotions", "Detener promociones", "Parar promoções"), start=1):
            await customer_writes(
                stage, button, extra={"ButtonText": button, "ButtonPayload": "x", "MessageType": "button"}
            )
            assert await stage.count("conversations WHERE reply_due_at IS NOT NULL") == 0, button
            assert await ledger(stage) == [("whatsapp", "marketing", "opted_out", "message")] * number

        async def admitted(**more: Any) -> str:
            request = await stage.requested(conversation, "hola", **more)
            await window.admit([request], stage.context)
            return await stage.status(request.message_id)

        assert await admitted(lane="bulk") == "failed"
        assert await admitted() == "ready"
        await customer_writes(stage, "Resume promotions")
        assert await admitted(lane="bulk") == "ready"
        assert await stage.count("conversations WHERE reply_due_at IS NOT NULL") == 1


async def test_stop_is_not_answered_and_start_is_by_the_tenants_own_words_too(settings: Settings) -> None:
    async with staged(settings, {"reply": {"greeting": "Hola", "menu": []}}) as stage:
        own = {"words": {"fr": {"stop": ["arrêt"], "start": ["reprendre"]}}}
        async with stage.pool.acquire() as connection:
            assert await consents.set_settings(connection, stage.ours.tenant_id, own)
        for text, owed in (("STOP", 0), ("ARRET", 0), ("Reprendre !", 1)):
            await customer_writes(stage, text)
            assert await stage.count("conversations WHERE reply_due_at IS NOT NULL") == owed, text
        assert [state for _, _, state, _ in await ledger(stage)] == ["opted_out", "opted_out", "opted_in"]
        async with stage.working("reply", "window", "send", "clock"):
            await stage.until(stage.statuses, equals=["sent"])


async def test_the_payload_of_a_button_lifts_no_stop_and_a_tapped_title_does(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage:
        await customer_writes(stage, "STOP")
        payload = {"ButtonPayload": "START", "MessageType": "button"}
        await customer_writes(stage, "", extra=payload)
        await customer_writes(stage, "START", extra=payload)
        await customer_writes(stage, "", extra={"FlowData": '{"": "START"}', "MessageType": "interactive"})
        conversation = await talk(stage)
        assert await ledger(stage) == [("whatsapp", "all", "opted_out", "message")]
        assert await ends(stage, conversation) == ("failed", "opted_out")
        again = stage.said("", extra=payload, received_at=datetime.now(UTC))
        await worker.persist([again], stage.context)
        await worker.persist([again.model_copy(update={"replayed": True})], stage.context)
        assert await ledger(stage) == [("whatsapp", "all", "opted_out", "message")], "nor by a replay"
        await customer_writes(stage, "START", extra={**payload, "ButtonText": "START"})
        assert [state for _, _, state, _ in await ledger(stage)] == ["opted_out", "opted_in"]
        assert await ends(stage, conversation) == ("sent", None)
