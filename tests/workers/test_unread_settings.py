"""Settings that a newer version wrote and this one can't read: nothing is decided by others, and nothing is lost."""

import json
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from shared.domain.channels import UNREAD_WAIT
from shared.settings import Settings
from tests.support.stage import Stage, staged

EVERY = ("persist", "reply", "window", "send", "clock")
LONG_AGO = timedelta(hours=25)
NEWER_ENGINE = {"reply": {"engine": "of a newer version"}}
NEWER_POLICY = {"window": {"policy": "of a newer version"}}
RULES: dict[str, Any] = {"reply": {"engine": "rules", "greeting": "Hola", "menu": []}}


async def written_by_a_newer_version(stage: Stage, channel: dict[str, Any]) -> None:
    """Settings that ours would not let in."""
    await stage.pool.execute("UPDATE channels SET settings = $2 WHERE id = $1", stage.ours.id, channel)


async def owed_later(stage: Stage) -> int:
    """Conversations whose reply is due in a while."""
    return await stage.count("conversations WHERE reply_due_at > now() + interval '5 seconds'")


async def test_a_reply_that_is_owed_stays_owed_until_somebody_can_read_how_to_answer(settings: Settings) -> None:
    owing = RULES["reply"] | {"debounce": 60, "longest_wait": 60}
    async with staged(settings, {"reply": owing}) as stage, stage.working(*EVERY):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.owed, equals=1)
        await written_by_a_newer_version(stage, NEWER_ENGINE)
        soon = "UPDATE conversations SET reply_due_at = now() - interval '1 second'"
        with capture_logs() as logged:
            for _ in range(3):
                await stage.pool.execute(soon)
                await stage.until(owed_later, stage, equals=1)
        assert [line["fields"] for line in logged if "can't be read" in line["event"]] == ["reply.engine"]
        await stage.configure(RULES)
        await stage.pool.execute(soon)
        await stage.until(stage.bodies, equals=["Hola"])


async def test_who_writes_while_the_settings_cannot_be_read_is_owed_a_reply_too(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working(*EVERY):
        await written_by_a_newer_version(stage, NEWER_ENGINE)
        await stage.deliver(stage.said("hola"))
        await stage.until(owed_later, stage, equals=1)
        await stage.configure(RULES)
        await stage.pool.execute("UPDATE conversations SET reply_due_at = now()")
        await stage.until(stage.bodies, equals=["Hola"])


async def test_a_channel_that_was_deleted_owes_nobody_a_reply(settings: Settings) -> None:
    async with staged(settings, {"reply": RULES["reply"] | {"debounce": 1}}) as stage, stage.working(*EVERY):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.owed, equals=1)
        await stage.pool.execute("UPDATE channels SET deleted_at = now()")
        await stage.until(stage.owed, equals=0)
        assert await stage.count("messages") == 1


async def test_what_the_window_would_decide_waits_for_a_process_that_can_read_the_policy(settings: Settings) -> None:
    template = {"name": "HX" + "2" * 32, "variables": {"1": "{text}"}}
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        await written_by_a_newer_version(stage, NEWER_POLICY)
        message = await stage.owe(await stage.converse(last_message_ago=LONG_AGO), "hola")
        later = UNREAD_WAIT - timedelta(seconds=30)
        put_off = "messages WHERE status = 'queued' AND due_at > now() + $1::interval"
        await stage.until(stage.count, put_off, later, equals=1)
        await stage.configure({"window": {"policy": "template", "template": template}})
        await stage.pool.execute("UPDATE messages SET due_at = now()")
        await stage.until(stage.status, message, equals="sent")
        (seen,) = await stage.accepted()
        assert (seen.content_sid, json.loads(seen.content_variables or "")) == (template["name"], {"1": "hola"})


async def test_what_needs_none_of_the_unread_part_goes_on(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send"):
        await written_by_a_newer_version(stage, NEWER_POLICY | NEWER_ENGINE)
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="sent")
        assert (await stage.channel()).settings.rate is None
        await written_by_a_newer_version(stage, {"rate": 5, "unknown": "ask"} | NEWER_ENGINE)
        channel = await stage.channel()
        assert (channel.settings.rate, channel.settings.unknown) == (5, "ask")
        assert channel.unread == frozenset({"reply"})


async def test_a_send_nobody_knows_about_is_not_given_up_while_the_policy_cannot_be_read(settings: Settings) -> None:
    async with (
        staged(settings, unknown_give_up_after=0.3, unknown_check_after=0.2) as stage,
        stage.working("window", "send", "clock"),
    ):
        await written_by_a_newer_version(stage, {"unknown": "of a newer version"})
        await stage.sandbox.faults({"provider": "twilio", "action": "5xx"})
        message = await stage.owe(await stage.converse(), "hola")
        await stage.until(stage.status, message, equals="unknown")
        long_unknown = "messages WHERE status = 'unknown' AND unknown_at < now() - interval '3 seconds'"
        await stage.until(stage.count, long_unknown, equals=1)
        await stage.configure({"unknown": "ask"})
        await stage.until(stage.count, "events WHERE name = 'message.decision_wanted'", equals=1)
