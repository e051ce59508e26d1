"""What leaves, in what form and order, and what comes of the provider's refusals."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from ops.sandbox.twilio import AUTH_TOKEN
from shared.domain.model import Media, Template
from shared.settings import Settings
from shared.store import channels
from shared.store.messages import sends
from tests.support.stage import ADDRESS, CUSTOMER, Stage, staged

TEMPLATE = Template("HX" + "1" * 32, {"1": "Ana", "2": "mañana"})


def fault(action: str, **more: object) -> dict[str, object]:
    return {"provider": "twilio", "action": action, **more}


async def refused(stage: Stage) -> int:
    return len([message for message in await stage.sandbox.messages() if message.outcome == "refused"])


async def channel_status(stage: Stage) -> str:
    status: str = await stage.value("SELECT status FROM channels")
    return status


async def test_text_and_media_leave_as_they_are_with_our_id_in_the_callback(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send"):
        conversation = await stage.converse()
        picture = Media(url="https://files.example/1.jpg", mime_type="image/jpeg")
        sent = await stage.owe(conversation, "mira", media=(picture,))
        await stage.until(stage.status, sent, equals="sent")
        (seen,) = await stage.accepted()
        assert (seen.sender, seen.body) == (f"whatsapp:{ADDRESS}", "mira")
        assert seen.media_urls == ("https://files.example/1.jpg",)
        assert seen.status_callback is not None
        url, _, fragment = seen.status_callback.partition("#")
        assert url.endswith(f"/webhooks/twilio/{stage.ours.endpoint_id}/status?m={sent}")
        assert fragment == "rc=5&rp=all", "Twilio is to repeat a receipt that we did not take"
        row = await stage.message(sent)
        assert (row["external_id"], row["attempts"], row["due_at"], row["claim_id"]) == (seen.sid, 1, None, None)
        assert await stage.count("events WHERE name = 'message.sent' AND message_id = $1", sent) == 1


async def test_a_template_leaves_by_its_content_sid_even_outside_the_window(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send"):
        conversation = await stage.converse(last_message_ago=None)
        sent = await stage.owe(conversation, template=TEMPLATE)
        await stage.until(stage.status, sent, equals="sent")
        (seen,) = await stage.accepted()
        assert (seen.content_sid, seen.body) == (TEMPLATE.name, "")
        assert json.loads(seen.content_variables or "") == TEMPLATE.variables


async def test_messages_of_a_conversation_leave_one_after_the_other_in_their_order(settings: Settings) -> None:
    async with staged(settings) as stage:
        conversations = [await stage.converse(customer=f"+3460000000{n}") for n in range(3)]
        for n in range(12):
            for conversation in conversations:
                await stage.owe(conversation, str(n))
        await stage.sandbox.faults(fault("slow", delay_ms=20))
        async with stage.working("window", "send"), stage.working("window", "send"), stage.working("window", "send"):
            await stage.until(stage.statuses, equals=["sent"] * 36)
        for n in range(3):
            seen = await stage.accepted(f"+3460000000{n}")
            assert [message.body for message in seen] == [str(n) for n in range(12)]
            for earlier, later in itertools.pairwise(seen):
                assert earlier.finished_at is not None
                assert earlier.finished_at.monotonic <= later.received_at.monotonic


async def test_only_one_message_of_a_lane_can_be_claimed_at_a_time(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window"):
        conversation = await stage.converse()
        await stage.owe(conversation, "1")
        await stage.owe(conversation, "2")
        campaign = await stage.owe(conversation, "3", lane="bulk")
        await stage.until(stage.statuses, equals=["ready"] * 3)
        lease = timedelta(seconds=10)
        first = await sends.head(stage.pool, stage.ours.tenant_id, conversation, "normal")
        assert first is not None
        await stage.pool.execute("UPDATE messages SET status = 'held' WHERE id = $1", first.id)
        second = await sends.head(stage.pool, stage.ours.tenant_id, conversation, "normal")
        await stage.pool.execute("UPDATE messages SET status = 'ready' WHERE id = $1", first.id)
        other_lane = await sends.head(stage.pool, stage.ours.tenant_id, conversation, "bulk")
        assert second is not None
        assert other_lane is not None
        assert (second.content, other_lane.id) == ("2", campaign)
        # Both were read as the head of their lane, and both are ready.
        assert await sends.claim(stage.pool, first, await stage.channel(), lease) is not None
        assert await sends.claim(stage.pool, second, await stage.channel(), lease) is None
        assert await sends.claim(stage.pool, other_lane, await stage.channel(), lease) is not None


async def test_a_throttled_message_waits_as_the_provider_asks_and_its_lane_behind_it(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults(fault("429", retry_after=1, match={"body_contains": "0"}, times=1))
        conversation = await stage.converse()
        for n in range(4):
            await stage.owe(conversation, str(n))
        await stage.until(stage.statuses, equals=["sent"] * 4)
        assert await stage.bodies() == ["0", "1", "2", "3"]
        seen = await stage.sandbox.messages()
        refusals = [message for message in seen if message.outcome == "refused"]
        assert len(refusals) == 1
        assert seen[1].received_at.monotonic - refusals[0].received_at.monotonic >= 0.95
        assert await stage.value("SELECT attempts FROM messages ORDER BY out_seq LIMIT 1") == 2
        assert await stage.value("SELECT share FROM rate_limits") == pytest.approx(0.7), "the channel is slower now"


async def test_a_throttled_message_is_not_tried_early_by_another_process(
    settings: Settings,
) -> None:
    """Many workers hold the same nudge: one is throttled, and none of the others may go on hammering."""
    async with staged(settings, {"rate": 5}) as stage:
        await stage.sandbox.faults(fault("429", retry_after=8, times=1))
        conversation = await stage.converse()
        message = await stage.owe(conversation, "hola")
        async with stage.working("window"):
            await stage.until(stage.status, message, equals="ready")
        await stage.deliver(*[stage.admitted(conversation, message)] * 8)
        async with stage.working("send"), stage.working("send"):
            await stage.until(refused, stage, equals=1)
            await asyncio.sleep(1.5)
            assert len(await stage.sandbox.messages()) == 1


async def test_an_unreachable_provider_is_tried_again_and_nothing_overtakes(settings: Settings) -> None:
    dead = "http://127.0.0.1:9"
    async with staged(settings) as stage:
        conversation = await stage.converse()
        first, second = await stage.owe(conversation, "1"), await stage.owe(conversation, "2")
        away = stage.settings.model_copy(update={"twilio_api_url": dead})
        async with stage.working("window", "send", settings=away):
            await stage.until(
                lambda: stage.value("SELECT error_code FROM messages WHERE id = $1", first), equals="connect"
            )
        assert await stage.statuses() == ["ready", "ready"]
        row = await stage.message(first)
        assert row["not_before"] > datetime.now(UTC)
        async with stage.working("window", "send", "clock"):
            await stage.until(stage.statuses, equals=["sent", "sent"])
        assert await stage.bodies() == ["1", "2"]
        assert (await stage.message(first))["error_code"] is None
        assert (await stage.message(second))["attempts"] == 1


@pytest.mark.parametrize(
    "code", [21211, 30007, 63003], ids=["no such number", "content rejected", "unknown at the channel"]
)
async def test_a_refusal_that_is_final_fails_the_message_and_lets_the_next_one_pass(
    settings: Settings, code: int
) -> None:
    async with staged(settings) as stage, stage.working("window", "send"):
        await stage.sandbox.faults(fault("error", code=code, match={"body_contains": "1"}))
        conversation = await stage.converse()
        await stage.owe(conversation, "1")
        await stage.owe(conversation, "2")
        await stage.until(stage.statuses, equals=["failed", "sent"])
        row = await stage.row("SELECT error_code, due_at FROM messages WHERE status = 'failed'")
        assert (row["error_code"], row["due_at"]) == (str(code), None)
        assert await stage.count("events WHERE name = 'message.failed'") == 1


async def test_a_template_that_is_refused_fails_alone_and_lets_the_next_one_pass(settings: Settings) -> None:
    async with staged(settings, handoff_lease=60.0) as stage, stage.working("window", "send"):
        await stage.sandbox.faults(fault("error", code=63027, times=1))
        conversation = await stage.converse()
        requests = [await stage.requested(conversation, template=TEMPLATE), await stage.requested(conversation, "hola")]
        await stage.deliver(*requests)
        await stage.until(stage.statuses, equals=["failed", "sent"])
        assert await channel_status(stage) == "active"


async def test_a_throttle_of_no_time_waits_a_second(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults(fault("429", retry_after=0))
        await stage.owe(await stage.converse(), "hola")
        await asyncio.sleep(1.8)
        assert 1 <= len(await stage.sandbox.messages()) <= 2


async def test_a_message_that_was_held_for_days_is_still_tried_again(settings: Settings) -> None:
    """The day of tries begins when it is admitted."""
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults(fault("429", retry_after=1, times=1))
        request = await stage.requested(await stage.converse(), "hola")
        await stage.pool.execute("UPDATE messages SET created_at = now() - interval '3 days'")
        await stage.deliver(request)
        await stage.until(stage.statuses, equals=["sent"])


async def test_a_broken_channel_stops_is_announced_and_goes_on_once_when_it_is_resumed(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        await stage.sandbox.faults(fault("error", status=401, code=20003))
        conversation = await stage.converse()
        await stage.owe(conversation, "1")
        await stage.until(channel_status, stage, equals="stopped")
        await stage.owe(conversation, "2")
        await asyncio.sleep(0.5)
        assert len(await stage.sandbox.messages()) == 1
        assert await stage.statuses() == ["ready", "ready"]
        assert await stage.count("events WHERE name = 'channel.stopped'") == 1

        await stage.sandbox.clear_faults()
        assert await channels.resume(stage.pool, stage.ours.tenant_id, stage.ours.id)
        await stage.until(stage.statuses, equals=["sent", "sent"])
        assert await stage.bodies() == ["1", "2"]


async def test_credentials_that_do_not_open_stop_the_channel_and_new_ones_start_it(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        ours = stage.ours
        # Sealed for another row: copied from channel to channel they don't open.
        moved = stage.sealed({"account_sid": "AC1", "auth_token": "x"}, ours.tenant_id, ours.tenant_id)
        await channels.set_credentials(stage.pool, ours.tenant_id, ours.id, moved)
        message = await stage.owe(await stage.converse(), "1")
        await stage.until(channel_status, stage, equals="stopped")
        assert await stage.count("events WHERE name = 'channel.stopped'") == 1
        assert await stage.status(message) == "ready"
        assert await stage.sandbox.messages() == ()

        right = stage.sealed({"account_sid": "AC" + "5a" * 16, "auth_token": AUTH_TOKEN}, ours.tenant_id, ours.id)
        await channels.set_credentials(stage.pool, ours.tenant_id, ours.id, right)
        await channels.resume(stage.pool, ours.tenant_id, ours.id)
        await stage.until(stage.status, message, equals="sent")


async def test_a_message_whose_time_has_passed_is_canceled(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send"):
        conversation = await stage.converse()
        late = await stage.owe(conversation, "tarde", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        in_time = await stage.owe(conversation, "a tiempo", expires_at=datetime.now(UTC) + timedelta(minutes=1))
        await stage.until(stage.status, in_time, equals="sent")
        assert await stage.status(late) == "canceled"
        assert await stage.value("SELECT message_id FROM events WHERE name = 'message.canceled'") == late
        assert await stage.bodies() == ["a tiempo"]


@pytest.mark.parametrize("deleted", ["channels", "tenants"])
async def test_a_deleted_channel_or_tenant_sends_and_answers_nothing_more(settings: Settings, deleted: str) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        before = await stage.owe(conversation, "1")
        async with stage.working("window"):
            await stage.until(stage.status, before, equals="ready")
        await stage.pool.execute(f"UPDATE {deleted} SET deleted_at = now()")
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now(), user_message_count = 1")
        after = await stage.owe(conversation, "2")
        async with stage.working("reply", "window", "send", "clock"):
            await stage.until(stage.owed, equals=0)
        assert await stage.statuses() == ["canceled", "canceled"]
        assert await stage.count("events WHERE name = 'message.canceled'") == 2
        assert (await stage.message(after))["error_code"] == "channel_deleted"
        assert await stage.sandbox.messages() == ()


@pytest.mark.alone
async def test_three_workers_together_keep_the_rate_of_a_channel(settings: Settings) -> None:
    async with staged(settings, {"rate": 20}) as stage:
        for n in range(70):
            await stage.owe(await stage.converse(customer=f"+34600{n:06}"), "hola")
        async with stage.working("window"):
            await stage.until(stage.statuses, equals=["ready"] * 70)
        async with stage.working("send"), stage.working("send"), stage.working("send", "clock"):
            await stage.until(stage.statuses, equals=["sent"] * 70, within=20)
        at = sorted(message.received_at.monotonic for message in await stage.sandbox.messages())
        busiest = max(sum(1 for moment in at if start <= moment < start + 1) for start in at)
        assert busiest <= 24, "20 a second, and a tenth of a second's slice more of each worker"
        assert at[-1] - at[0] >= 2.9


async def test_the_bulk_lane_does_not_hold_up_the_normal_one(settings: Settings) -> None:
    """A throttled campaign message blocks the bulk lane of its conversation, not the reply in the other lane."""
    async with (
        staged(settings, send_timeout=30.0, stop_grace=0.5) as stage,
        stage.working("window", "send", "clock"),
    ):
        await stage.sandbox.faults(fault("hang", seconds=25.0, match={"body_contains": "campaña"}))
        conversation = await stage.converse()
        for n in range(3):
            await stage.owe(conversation, f"campaña {n}", lane="bulk")
        await stage.until(stage.count, "messages WHERE status = 'sending'", equals=1)
        reply = await stage.owe(conversation, "respuesta")
        await stage.until(stage.status, reply, equals="sent")
        assert await stage.bodies(CUSTOMER) == ["respuesta"]
