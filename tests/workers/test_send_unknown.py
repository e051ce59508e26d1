"""A send of unknown outcome is looked up, decided on, and sent anew only where the provider's list lacks it."""

import asyncio
from datetime import timedelta

import pytest

from ops.sandbox.receipts import Delays
from shared import database
from shared.providers.base import SendResult, Throttled, Unreachable, WindowClosed
from shared.queue.jobs import AgentReportDue, UnknownDue
from shared.settings import Settings
from shared.store import channels, due_rows
from shared.store.messages import sends, unknown_sends
from tests.support.stage import Stage, staged
from workers import window
from workers.send import recording

GIVE_UP = {"unknown": "give_up"}
NEVER = Delays(sent=0.01, delivered=600, read=600)
QUEUED = Delays(sent=600, delivered=600, read=600)


async def calls(stage: Stage) -> int:
    return len(await stage.sandbox.messages())


async def test_an_answer_that_was_lost_is_found_in_the_providers_list(settings: Settings) -> None:
    async with staged(settings, delays=NEVER) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "accept_then_drop"})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="unknown")
        assert await stage.count("events WHERE name = 'message.unknown'") == 1
        await stage.until(stage.status, message, equals="sent")
        (seen,) = await stage.sandbox.messages()
        row = await stage.message(message)
        assert (row["external_id"], row["error_code"], row["due_at"]) == (seen.sid, None, None)


async def test_two_messages_of_the_same_text_are_not_taken_for_each_other(settings: Settings) -> None:
    async with staged(settings, GIVE_UP, delays=NEVER) as stage, stage.working("window", "send", "clock"):
        conversation = await stage.converse()
        first = await stage.owe(conversation, "hola")
        await stage.until(stage.status, first, equals="sent")
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before"})
        second = await stage.owe(conversation, "hola")
        await stage.until(stage.status, second, equals="unknown")
        await stage.until(stage.status, second, equals="failed")
        assert len(await stage.accepted()) == 1
        assert await calls(stage) == 2


async def test_one_entry_for_two_unknown_messages_of_the_same_text_is_given_to_neither(settings: Settings) -> None:
    async with (
        staged(settings, GIVE_UP, delays=NEVER, unknown_give_up_after=2.0) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults(
            {"provider": "twilio", "action": "drop_before", "times": 1},
            {"provider": "twilio", "action": "accept_then_drop", "times": 1},
        )
        conversation = await stage.converse()
        for _ in range(2):
            await stage.owe(conversation, "hola")
        await stage.until(stage.count, "messages WHERE error_code = 'unknown'", equals=2)
        assert await stage.statuses() == ["failed", "failed"]
        assert len(await stage.accepted()) == 1


@pytest.mark.parametrize(
    "fault",
    [{"action": "hang", "seconds": 1.0}, {"action": "5xx", "status": 503}, {"action": "drop_before"}],
    ids=["no answer in time", "server error", "connection lost"],
)
async def test_what_cannot_be_found_is_given_up_and_never_sent_again(
    settings: Settings, fault: dict[str, object]
) -> None:
    async with (
        staged(settings, GIVE_UP, delays=NEVER, send_timeout=0.4, unknown_give_up_after=1.0) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults({"provider": "twilio", "times": 1, **fault})
        conversation = await stage.converse()
        message = await stage.owe(conversation, "hola")
        await stage.until(stage.status, message, equals="unknown")
        following = await stage.owe(conversation, "¿sigues ahí?")
        await stage.until(stage.status, following, equals="sent")  # an unknown one does not block its lane
        await stage.until(stage.status, message, equals="failed")
        row = await stage.message(message)
        assert (row["error_code"], row["due_at"]) == ("unknown", None)
        assert await stage.count("events WHERE name = 'message.failed'") == 1
        assert await calls(stage) == 2
        assert await stage.bodies() == ["¿sigues ahí?"]
        # And if it had been accepted after all, its receipt still tells.
        async with stage.working("persist"):
            await stage.deliver(stage.receipt("SM" + "7" * 32, "sent", message_id=message))
            await stage.until(stage.status, message, equals="sent")


async def test_what_two_looks_do_not_find_is_sent_anew_as_a_message_of_its_own(settings: Settings) -> None:
    async with staged(settings, delays=QUEUED) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before", "times": 1})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.statuses, equals=["failed", "sent"])
        row = await stage.message(message)
        assert (row["error_code"], row["due_at"]) == ("resent", None)
        again = await stage.row("SELECT * FROM messages WHERE dedupe_key = $1", f"resend:{message}:1")
        (seen,) = await stage.accepted()
        assert (again["status"], again["external_id"], seen.body) == ("sent", seen.sid, "hola")
        events = await stage.rows("SELECT name FROM events WHERE message_id = $1 ORDER BY seq", message)
        assert [event["name"] for event in events] == ["message.unknown", "message.failed"]


async def test_what_is_listed_only_at_the_second_look_is_not_sent_anew(settings: Settings) -> None:
    """And while Twilio queues it, its list has no date_sent for it."""
    async with (
        staged(settings, delays=QUEUED, unknown_absent_for=3.0) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults(
            {"provider": "twilio", "action": "listed_late", "seconds": 2.0},
            {"provider": "twilio", "action": "accept_then_drop", "times": 1},
        )
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.count, "messages WHERE absent_at IS NOT NULL", equals=1)
        await stage.until(stage.status, message, equals="sent")
        assert await calls(stage) == 1


async def test_a_lost_answer_is_looked_up_by_the_recipient_it_was_sent_to(settings: Settings) -> None:
    """The customer wrote under a user id meanwhile, which is whom the next message goes to."""
    async with (
        staged(settings, delays=QUEUED, unknown_check_after=0.2) as stage,
        stage.working("window", "send"),
    ):
        await stage.sandbox.faults({"provider": "twilio", "action": "accept_then_drop", "times": 1})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="unknown")
        await stage.pool.execute("UPDATE conversations SET recipient = '+14155550199'")
        async with stage.working("clock"):
            await stage.until(stage.status, message, equals="sent")
        assert await stage.statuses() == ["sent"]
        assert await calls(stage) == 1


@pytest.mark.parametrize("changed", ["address = '+14155550100'", "credentials = credentials"])
async def test_nothing_is_sent_anew_where_the_channel_has_changed_since(settings: Settings, changed: str) -> None:
    """Another number's list, or another account's, lacks what this one took."""
    async with (
        staged(settings, delays=QUEUED, unknown_give_up_after=6.0) as stage,
        stage.working("window", "send"),
    ):
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before", "times": 1})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="unknown")
        await stage.pool.execute(f"UPDATE channels SET {changed}")
        async with stage.working("clock"):
            await stage.until(stage.status, message, equals="failed", within=30)
        assert (await stage.message(message))["error_code"] == "unknown"
        assert await stage.statuses() == ["failed"]
        assert await calls(stage) == 1


@pytest.mark.parametrize("receipt_status", ["sent", "delivered", "failed"])
async def test_a_receipt_of_the_original_cancels_what_was_to_send_it_anew(
    settings: Settings, receipt_status: str
) -> None:
    async with staged(settings, delays=QUEUED) as stage:
        async with stage.working("window", "send"):
            await stage.sandbox.faults({"provider": "twilio", "action": "drop_before", "times": 1})
            message = await stage.owe(await stage.converse(), "hola")
            await stage.until(stage.status, message, equals="unknown")
        async with stage.working("send", "clock"):  # no window: what is made stays queued
            await stage.until(stage.count, "messages WHERE error_code = 'resent'", equals=1)
        async with stage.working("persist"):
            await stage.deliver(stage.receipt("SM" + "7" * 32, receipt_status, message_id=message))
            await stage.until(stage.count, "message_statuses WHERE applied", equals=1)
        again = await stage.row("SELECT * FROM messages WHERE dedupe_key = $1", f"resend:{message}:1")
        assert (again["status"], again["error_code"], again["due_at"]) == ("canceled", "already_sent", None)
        assert await stage.value("SELECT message_id FROM events WHERE name = 'message.canceled'") == again["id"]
        assert await stage.status(message) == receipt_status
        assert await calls(stage) == 1


async def test_a_late_answer_or_entry_of_the_original_cancels_what_was_to_send_it_anew(settings: Settings) -> None:
    async with staged(settings, delays=QUEUED) as stage:
        async with stage.working("window", "send"):
            await stage.sandbox.faults({"provider": "twilio", "action": "drop_before", "times": 1})
            message = await stage.owe(await stage.converse(), "hola")
            await stage.until(stage.status, message, equals="unknown")
        async with stage.working("send", "clock"):  # no window: what is made stays queued
            await stage.until(stage.count, "messages WHERE error_code = 'resent'", equals=1)
        async with stage.pool.acquire() as connection, connection.transaction():
            assert await sends.sent(connection, stage.ours.tenant_id, message, None, "SM" + "7" * 32) == "failed"
        again = await stage.row("SELECT * FROM messages WHERE dedupe_key = $1", f"resend:{message}:1")
        assert (again["status"], again["error_code"], again["due_at"]) == ("canceled", "already_sent", None)
        assert await stage.value("SELECT message_id FROM events WHERE name = 'message.canceled'") == again["id"]
        assert (await stage.message(message))["external_id"] == "SM" + "7" * 32


async def test_what_the_provider_took_after_all_is_not_sent_anew_a_second_time(settings: Settings) -> None:
    async with staged(settings, delays=QUEUED, unknown_give_up_after=60.0) as stage:
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before"})
        message = await stage.owe(await stage.converse(), "hola")
        async with stage.working("window", "send"):
            await stage.until(stage.status, message, equals="unknown")
            async with stage.working("clock"):
                await stage.until(stage.count, "messages WHERE error_code = 'resent'", equals=1)
                await stage.until(calls, stage, equals=2)
        async with stage.working("persist"):
            await stage.deliver(stage.receipt("SM" + "7" * 32, "sent", message_id=message))
            await stage.until(stage.status, message, equals="sent")
        async with stage.working("window", "send", "clock"):
            await stage.until(stage.count, "messages WHERE error_code = 'unknown'", equals=1)
        assert await calls(stage) == 2


@pytest.mark.parametrize("result", [Unreachable("connect"), Throttled("131056", 6.0, "", "message"), WindowClosed("x")])
async def test_what_was_not_taken_leaves_though_its_lease_ran_out_before_that_was_written(
    settings: Settings, result: SendResult
) -> None:
    """Meta has no list: as any other unknown one it would be given up."""
    async with staged(settings, delays=QUEUED) as stage:
        conversation = await stage.converse()
        request = await stage.requested(conversation, "hola")
        await window.admit([request], stage.context)
        channel = await stage.channel()
        head = await sends.head(stage.pool, stage.ours.tenant_id, conversation, "normal")
        assert head is not None
        claim = await sends.claim(stage.pool, head, channel, timedelta(0))
        assert claim is not None
        async with stage.pool.acquire() as connection, connection.transaction():
            assert len(await due_rows.lost_leases(connection, timedelta(seconds=60), 10)) == 1
        for _ in range(2):  # the second is void
            async with stage.pool.acquire() as connection, connection.transaction():
                call = recording.Call(head, channel, claim, timedelta(0))
                await recording._record(connection, call, result, stage.context)  # type: ignore[arg-type]
        assert (await stage.message(head.id))["error_code"] == "resent"
        async with stage.working("window", "send", "clock"):
            await stage.until(stage.bodies, equals=["hola"])
        assert await stage.count("messages WHERE status = 'sent'") == 1


async def test_a_claim_that_took_longer_than_the_margin_is_not_sent_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call would go on beyond its lease, when the looks may have found nothing already."""
    monkeypatch.setattr(database, "LOCK_WAIT", 4.0)  # a busy machine must not turn the late claim into one that gave up
    async with staged(settings, delays=QUEUED, send_timeout=20.0, send_lease_margin=0.5) as stage:
        async with stage.working("window"):
            message = await stage.owe(await stage.converse(), "hola")
            await stage.until(stage.status, message, equals="ready")
        async with stage.pool.acquire() as other, stage.working("send"):
            async with other.transaction():
                await other.execute("SELECT FROM messages WHERE id = $1 FOR UPDATE", message)
                await stage.until(stage.count, "pg_locks WHERE NOT granted", equals=1)
                await asyncio.sleep(1.0)
            await stage.until(stage.count, "messages WHERE error_code = 'late_claim'", equals=1)
            assert (await stage.status(message), await calls(stage)) == ("ready", 0)
            async with stage.working("clock"):
                await stage.until(stage.status, message, equals="sent")
        assert await calls(stage) == 1


async def test_what_was_not_sent_on_a_late_claim_is_known_though_its_row_is_held_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 3.0)  # a busy machine must not turn the late claim into one that gave up
    async with staged(settings, delays=QUEUED, send_timeout=20.0, send_lease_margin=0.5) as stage:
        async with stage.working("window"):
            message = await stage.owe(await stage.converse(), "hola")
            await stage.until(stage.status, message, equals="ready")
        lock = "SELECT FROM messages WHERE id = $1 FOR UPDATE"
        async with stage.pool.acquire() as first, stage.pool.acquire() as second, stage.working("send"):
            async with second.transaction():
                async with first.transaction():
                    await first.execute(lock, message)
                    await stage.until(stage.count, "pg_locks WHERE NOT granted", equals=1)
                    behind = asyncio.create_task(second.execute(lock, message))  # has the row once it is claimed
                    await asyncio.sleep(1.0)
                await behind
                assert await stage.status(message) == "sending"
                await asyncio.sleep(1.5 * database.LOCK_WAIT)
            await stage.until(stage.count, "messages WHERE error_code = 'late_claim'", equals=1, within=10)
            assert (await stage.status(message), await calls(stage)) == ("ready", 0)


async def test_what_is_sent_anew_again_and_again_is_given_up(settings: Settings) -> None:
    async with staged(settings, delays=QUEUED) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before"})
        await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.count, "messages WHERE error_code = 'unknown'", equals=1, within=60)
        assert await stage.count("messages WHERE error_code = 'resent'") == unknown_sends.MOST_RESENDS
        assert await stage.owed() == 0
        assert await stage.bodies() == []


async def test_an_answer_is_not_sent_anew_where_an_agent_has_taken_the_conversation(settings: Settings) -> None:
    async with staged(settings, delays=QUEUED) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults({"provider": "twilio", "action": "drop_before", "times": 1})
        conversation = await stage.converse()
        message = await stage.owe(conversation, "hola", metadata={"engine": "rules"})
        await stage.until(stage.status, message, equals="unknown")
        await stage.pool.execute("UPDATE conversations SET status = 'escalated'")
        await stage.until(stage.status, message, equals="failed")
        assert await stage.statuses() == ["failed"]
        assert (await stage.message(message))["error_code"] == "unknown"


async def test_a_channel_that_asks_leaves_it_unknown_and_says_so_once(settings: Settings) -> None:
    async with (
        staged(settings, {"unknown": "ask"}, unknown_give_up_after=0.5) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults({"provider": "twilio", "action": "5xx"})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.count, "events WHERE name = 'message.decision_wanted'", equals=1)
        await asyncio.sleep(1)
        row = await stage.message(message)
        assert (row["status"], row["due_at"]) == ("unknown", None)
        assert await stage.count("events WHERE name = 'message.decision_wanted'") == 1
        assert await calls(stage) == 1


async def test_an_unknown_one_of_a_channel_whose_credentials_went_is_given_up_too(settings: Settings) -> None:
    async with (
        staged(settings, delays=NEVER, unknown_give_up_after=0.8) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults({"provider": "twilio", "action": "5xx"})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="unknown")
        ours = stage.ours
        await channels.set_credentials(stage.pool, ours.tenant_id, ours.id, stage.sealed({}, ours.tenant_id, ours.id))
        await stage.until(stage.status, message, equals="failed")
        await stage.until(stage.waiting, equals=0)
        assert await stage.dead_letters() == {}


async def test_an_answer_that_comes_after_the_lease_still_counts(settings: Settings) -> None:
    """The clock made it unknown while the call went on; the call's own record resolves it."""
    async with (
        staged(settings, delays=NEVER, send_timeout=5.0, unknown_check_after=60.0) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 1000, "accepted_first": True})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="sending")
        await stage.pool.execute("UPDATE messages SET due_at = now() WHERE id = $1", message)
        await stage.until(stage.status, message, equals="unknown")
        await stage.until(stage.status, message, equals="sent")
        assert await calls(stage) == 1


async def test_a_job_does_what_it_names_and_nothing_else(settings: Settings) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        message = (await stage.requested(conversation, "hola")).message_id
        await stage.pool.execute("UPDATE messages SET status = 'ready', due_at = now() + interval '1 hour'")
        ready = stage.admitted(conversation, message)
        async with stage.working("send"):
            await stage.deliver(UnknownDue(**dict(ready)), AgentReportDue(**dict(ready)))
            await stage.until(stage.waiting, equals=0)
            assert await stage.status(message) == "ready", "it is not of unknown outcome"
            await stage.deliver(ready)
            await stage.until(stage.status, message, equals="sent")
        assert await calls(stage) == 1


async def test_a_job_of_an_older_process_makes_a_parked_look_up_due_again(settings: Settings) -> None:
    """Its type asked for look-ups too. The clock then publishes the job that does."""
    async with staged(settings) as stage:
        conversation = await stage.converse()
        message = (await stage.requested(conversation, "hola")).message_id
        await stage.pool.execute("UPDATE messages SET status = 'unknown', unknown_at = now(), due_at = NULL")
        async with stage.working("send"):
            await stage.deliver(stage.admitted(conversation, message))
            await stage.until(stage.count, "messages WHERE status = 'unknown' AND due_at IS NOT NULL", equals=1)
        assert await calls(stage) == 0


async def test_a_redelivered_nudge_that_finds_a_live_claim_does_nothing(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send"), stage.working("send"):
        await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 700})
        conversation = await stage.converse()
        message = await stage.owe(conversation, "hola")
        await stage.until(stage.status, message, equals="sending")
        for _ in range(10):
            await stage.deliver(stage.admitted(conversation, message))
        await stage.until(stage.status, message, equals="sent")
        await stage.until(stage.waiting, equals=0)
        assert await calls(stage) == 1
