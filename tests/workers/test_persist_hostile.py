"""Whatever a signed webhook holds: its neighbours in the batch are kept, and it leaves a trace to be replayed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from ops.sandbox.twilio import inbound_form
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import webhook_log
from tests.support.stage import ADDRESS, Stage, staged
from workers.persist import worker

SILENT = {"reply": {"engine": "none"}}
Poison = Callable[[Stage], WebhookReceived]


def with_field(name: str, value: str) -> Poison:
    return lambda stage: stage.said("hola", sender="+34699999999", extra={name: value})


def as_json(**fields: object) -> Poison:
    form = inbound_form(sender="whatsapp:+34699999999", to=f"whatsapp:{ADDRESS}", text="hola")
    return lambda stage: stage.webhook(json.dumps({**form, **fields}).encode(), content_type="application/json")


def raw(body: bytes, **fields: str) -> Poison:
    return lambda stage: stage.webhook(body, **dict[str, Any](fields))


FORM = b"MessageSid=SM1&From=whatsapp%3A%2B34699999999&To=whatsapp%3A%2B14155238886&NumMedia=0&Body="
STATUS = "MessageSid=SM1&MessageStatus=delivered&To=whatsapp%3A%2B34699999999&From=whatsapp%3A%2B14155238886"
DEEP = b'{"a":' * 500 + b"1" + b"}" * 500

KEPT_AS_A_MESSAGE: dict[str, Poison] = {
    "NUL in the text": with_field("Body", "ho\0la"),
    "NUL in the name": with_field("ProfileName", "A\0na"),
    "NUL in the message's id": with_field("MessageSid", "SM\0" + "1" * 30),
    "NUL in the id it answers": with_field("OriginalRepliedMessageSid", "SM\0"),
    "NUL in an unknown field's name": with_field("New\0Parameter", "x"),
    "NUL in a media URL": with_field("MediaUrl0", "https://api.twilio.com/\0"),
    "NUL in JSON": as_json(Body="ho\0la", Extra={"a\0": ["\0"]}),
    "invalid UTF-8": raw(FORM + b"\xff\xfe%ff"),
    "a body of 1 MB": raw(FORM + b"x" * 1_048_000),
    "1 MB in an unknown field": raw(FORM + b"hola&Unknown=" + b"x" * 1_000_000),
    "half an emoji": raw(FORM + b"%ed%a0%bd"),
    "a name of 100 kB": with_field("ProfileName", "A" * 100_000),
}  # fmt: skip
NOT_READ: dict[str, Poison] = {
    "no fields we know": raw(b"foo=bar"),
    "a hundred thousand fields": raw(b"&".join(b"a%d=1" % n for n in range(100_000))),
    "no sender": with_field("From", ""),
    "an unreadable sender": with_field("From", "whatsapp:\0"),
    "no To": with_field("To", ""),
    "an unknown channel": with_field("To", "whatsapp:+15005550001"),
    "another network": with_field("From", "messenger:123456789"),
    "an id of 20 kB that does not compress": lambda stage: stage.said(
        "hola", sender="+34699999999", sid="".join(str(uuid4()) for _ in range(600))
    ),
    "JSON that is none": raw(b'{"MessageSid":', content_type="application/json"),
    "JSON nested deep": raw(DEEP, content_type="application/json"),
    "a receipt with NUL everywhere": lambda stage: stage.webhook(
        (STATUS + "%00&ErrorCode=%00&ErrorMessage=%00").replace("SM1", "SM%00").encode(), receipts=True
    ),
    "a receipt with an id of 20 kB": lambda stage: stage.webhook(
        STATUS.replace("SM1", "".join(str(uuid4()) for _ in range(600))).encode(), receipts=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT_AS_A_MESSAGE)
async def test_a_strange_message_is_kept_and_so_are_its_neighbours(settings: Settings, name: str) -> None:
    async with staged(settings) as stage:
        before, poison, after = stage.said("antes"), KEPT_AS_A_MESSAGE[name](stage), stage.said("después")
        await worker.persist([before, poison, after], stage.context)
        assert await stage.count("messages WHERE direction = 'inbound'") == 3
        outcomes = await stage.rows("SELECT outcome FROM inbound_log")
        assert [row["outcome"] for row in outcomes] == ["parsed"] * 3
        assert await stage.value("SELECT body FROM inbound_log WHERE id = decode($1, 'hex')", poison.inbound_id) == (
            poison.raw_body
        )
        assert await stage.count("messages WHERE content LIKE '%hola%' OR content ~ '^(ho.la|x+|.+)$'") == 3


@pytest.mark.parametrize("name", NOT_READ)
async def test_what_cannot_be_read_is_kept_raw_and_its_neighbours_are_not_harmed(settings: Settings, name: str) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist"):
        before, poison, after = stage.said("antes"), NOT_READ[name](stage), stage.said("después")
        await stage.deliver(before, poison, after)
        await stage.until(stage.count, "inbound_log", equals=3)
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=2)
        logged = await stage.row("SELECT * FROM inbound_log WHERE id = decode($1, 'hex')", poison.inbound_id)
        assert logged["body"] == poison.raw_body
        if not poison.receipts:
            assert logged["outcome"] in ("unparsed", "partly")
            assert logged["error"]
        assert await stage.value("SELECT unread_count FROM conversations") == 2
        await stage.until(stage.waiting, equals=0)
        assert await stage.dead_letters() == {}


async def test_a_batch_of_two_hundred_survives_all_of_them_at_once(settings: Settings) -> None:
    async with staged(settings, SILENT) as stage, stage.working("persist"):
        poisons = [make(stage) for make in (*KEPT_AS_A_MESSAGE.values(), *NOT_READ.values())]
        good = [stage.said(f"{n}", sender=f"+34600{n:06}") for n in range(150)]
        mixed = [*good[:50], *poisons, *good[50:]]
        await stage.deliver(*mixed)
        await stage.until(stage.count, "inbound_log", equals=len({webhook.inbound_id for webhook in mixed}))
        assert await stage.count("messages m JOIN conversations c ON c.id = m.conversation_id "
                                 "WHERE c.address LIKE '+34600%'") == 150  # fmt: skip


async def test_a_message_to_an_unknown_number_is_answered_by_replay_once_there_is_one(
    settings: Settings,
) -> None:
    async with staged(settings) as stage, stage.working("all"):
        at = datetime.now(UTC) - timedelta(minutes=10)
        webhook = stage.said("hola", extra={"To": "whatsapp:+15005550001"}, received_at=at)
        await stage.deliver(webhook)
        await stage.until(stage.count, "inbound_log", equals=1)
        logged = await stage.row("SELECT outcome, error FROM inbound_log")
        assert logged["outcome"] == "unparsed"
        assert "palomar channels add" in logged["error"]
        assert "15005550001" not in logged["error"]

        await stage.add_channel(address="+15005550001", beside=stage.ours)
        (again,) = await webhook_log.fetch(stage.pool, [webhook.inbound_id])
        await stage.deliver(again.webhook)
        await stage.until(stage.statuses, equals=["sent"])
        assert (await stage.accepted())[0].sender == "whatsapp:+15005550001"
        assert await stage.value("SELECT received_at FROM messages WHERE direction = 'inbound'") == at
        logged = await stage.row("SELECT outcome, error FROM inbound_log")
        assert tuple(logged) == ("parsed", None)


async def test_a_channel_whose_settings_are_not_valid_keeps_what_comes_and_harms_no_other(settings: Settings) -> None:
    """Settings are checked when they are set; a newer version of ours may think otherwise. What they decide waits:
    the reply stays owed."""
    async with staged(settings) as stage, stage.working("all"):
        other = await stage.add_channel()
        await stage.pool.execute('UPDATE channels SET settings = \'{"reply": {"engine": 1}}\' WHERE id = $1', other.id)
        await stage.deliver(stage.said("1"), stage.said("2", to=other), stage.said("3", sender="+34600000003"))
        await stage.until(stage.statuses, equals=["sent", "sent"])
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=3)
        await stage.until(stage.owed, equals=1)
        assert await stage.dead_letters() == {}
