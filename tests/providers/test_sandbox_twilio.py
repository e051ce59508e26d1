"""Twilio's own SDK against the sandbox, the receipts that follow, and the customer's side."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlparse

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from ops.sandbox.receipts import Delays
from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from tests.support.sandbox_stage import CHANNEL, CUSTOMER, SDK_WARNINGS, Stage, playing, receiving

pytestmark = SDK_WARNINGS
OTHER_SID, OTHER_TOKEN = "AC" + "b" * 32, "another token"
TEMPLATE = "HX" + "c" * 32


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with playing() as stage:
        yield stage


async def test_the_sdk_sends_and_finds_its_message_again(stage: Stage) -> None:
    async with stage.twilio() as twilio:
        sent = await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
        assert re.fullmatch("SM[0-9a-f]{32}", sent.sid)
        assert (sent.status, sent.to, sent.from_, sent.body) == ("queued", CUSTOMER, CHANNEL, "hola")
        assert (await twilio.messages(sent.sid).fetch_async()).sid == sent.sid
        assert (await twilio.api.accounts(ACCOUNT_SID).fetch_async()).status == "active"
    (seen,) = await stage.sandbox.messages(to=CUSTOMER)
    assert (seen.sid, seen.body, seen.outcome, seen.answered) == (sent.sid, "hola", "accepted", True)
    assert seen.finished_at is not None
    assert seen.received_at.monotonic <= seen.finished_at.monotonic


async def test_the_synchronous_sdk_works_too(stage: Stage) -> None:
    class Rewriting(TwilioHttpClient):  # type: ignore[misc]  # the SDK ships no types
        def request(self, method: str, url: str, *args: object, **kwargs: object) -> Response:
            return super().request(method, url.replace("https://api.twilio.com", stage.base_url), *args, **kwargs)

    def send() -> str:
        http_client = Rewriting()
        try:
            message = Client(ACCOUNT_SID, AUTH_TOKEN, http_client=http_client).messages.create(
                to="+5215512345678", from_="+14155238886", body="hola"
            )
        finally:
            http_client.session.close()
        return str(message.sid)

    sid = await asyncio.to_thread(send)
    (seen,) = await stage.sandbox.wait(to="+5215512345678")
    assert seen.sid == sid


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"from_": CHANNEL, "body": "hola"}, 400, 21604),
        ({"to": CUSTOMER, "body": "hola"}, 400, 21603),
        ({"to": CUSTOMER, "from_": CHANNEL}, 400, 21602),
        ({"to": CUSTOMER, "from_": CHANNEL, "body": "x" * 1601}, 400, 21617),
        ({"to": "whatsapp:nobody", "from_": CHANNEL, "body": "hola"}, 400, 21211),
        ({"to": "US.1234567890", "from_": "+14155238886", "body": "hola"}, 400, 21211),
        ({"to": CUSTOMER, "from_": "+14155238886", "body": "hola"}, 400, 21910),
        ({"to": CUSTOMER, "from_": CHANNEL, "content_sid": "HX1"}, 400, 21655),
        ({"to": CUSTOMER, "from_": CHANNEL, "content_sid": TEMPLATE, "content_variables": "{1:2}"}, 400, 21656),
        ({"to": CUSTOMER, "from_": CHANNEL, "body": "hola", "status_callback": "http://example.com/s"}, 400, 21609),
    ],
)
async def test_what_twilio_refuses_is_refused_with_its_code(
    stage: Stage, fields: dict[str, str], status: int, code: int
) -> None:
    async with stage.twilio() as twilio:
        with pytest.raises(TwilioRestException) as refusal:
            await twilio.messages.create_async(**({"to": ""} | fields))
    assert (refusal.value.status, refusal.value.code) == (status, code)
    (seen,) = await stage.sandbox.messages()
    assert (seen.outcome, seen.code) == ("refused", str(code))


@pytest.mark.parametrize(
    "fields",
    [
        {"to": CUSTOMER, "from_": CHANNEL, "body": "x" * 1600},
        {"to": "whatsapp:US.1234567890", "from_": CHANNEL, "body": "hola"},
        {"to": CUSTOMER, "from_": CHANNEL, "media_url": ["https://example.com/a.png", "https://example.com/b.png"]},
        {"to": CUSTOMER, "from_": CHANNEL, "content_sid": TEMPLATE, "content_variables": '{"1": "Ana"}'},
        {"to": CUSTOMER, "messaging_service_sid": "MG" + "d" * 32, "body": "hola"},
    ],
)
async def test_what_twilio_takes_is_taken(stage: Stage, fields: dict[str, str | list[str]]) -> None:
    async with stage.twilio() as twilio:
        sent = await twilio.messages.create_async(**fields)
    (seen,) = await stage.sandbox.wait(to=str(fields["to"]))
    assert seen.sid == sent.sid
    assert seen.media_urls == tuple(fields.get("media_url", ()))
    assert (seen.content_sid, seen.content_variables) == (fields.get("content_sid"), fields.get("content_variables"))


async def test_only_the_accounts_own_token_opens_it(stage: Stage) -> None:
    await stage.sandbox.account(OTHER_SID, OTHER_TOKEN)
    for sid, token, status, code in (
        (ACCOUNT_SID, "wrong", 401, 20003),
        ("AC" + "e" * 32, AUTH_TOKEN, 404, 20404),
        (OTHER_SID, AUTH_TOKEN, 401, 20003),
    ):
        async with stage.twilio(sid, token) as twilio:
            with pytest.raises(TwilioRestException) as refusal:
                await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
        assert (refusal.value.status, refusal.value.code) == (status, code)
    async with stage.twilio(OTHER_SID, OTHER_TOKEN) as twilio:
        sent = await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
    async with stage.twilio() as twilio:
        with pytest.raises(TwilioRestException) as refusal:
            await twilio.messages(sent.sid).fetch_async()
    assert refusal.value.code == 20404
    assert [seen.sid for seen in await stage.sandbox.messages(account=OTHER_SID)] == [sent.sid]
    assert await stage.sandbox.messages(account=ACCOUNT_SID) == ()


async def test_the_sdk_lists_by_recipient_and_time_over_several_pages(stage: Stage) -> None:
    async with stage.twilio() as twilio:
        for number in range(5):
            await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body=str(number))
        await twilio.messages.create_async(to="whatsapp:+34600000001", from_=CHANNEL, body="somebody else")
        await asyncio.sleep(1.0)  # until they are sent
        now = datetime.now(UTC)
        listed = await twilio.messages.list_async(
            to=CUSTOMER, from_=CHANNEL, date_sent_after=now - timedelta(minutes=1), page_size=2
        )
        assert [message.body for message in listed] == ["4", "3", "2", "1", "0"]
        assert await twilio.messages.list_async(to=CUSTOMER, date_sent_after=now + timedelta(minutes=1)) == []
        assert await twilio.messages.list_async(to=CUSTOMER, date_sent_before=now - timedelta(minutes=1)) == []
        assert len(await twilio.messages.list_async(limit=3)) == 3


async def test_a_queued_message_is_listed_without_a_date_of_sending_and_by_none() -> None:
    now = datetime.now(UTC)
    async with playing(delays=Delays(sent=600, delivered=600, read=600)) as stage, stage.twilio() as twilio:
        await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
        (listed,) = await twilio.messages.list_async(to=CUSTOMER, from_=CHANNEL)
        assert (listed.status, listed.date_sent) == ("queued", None)
        assert listed.date_created >= now.replace(microsecond=0)
        assert await twilio.messages.list_async(to=CUSTOMER, date_sent_after=now - timedelta(minutes=1)) == []


async def test_a_message_may_be_listed_late(stage: Stage) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": "listed_late", "seconds": 0.5, "times": 1})
    async with stage.twilio() as twilio:
        sent = [await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body=text) for text in ("late", "soon")]
        assert [message.sid for message in await twilio.messages.list_async(to=CUSTOMER)] == [sent[1].sid]
        await asyncio.sleep(0.6)
        assert len(await twilio.messages.list_async(to=CUSTOMER)) == 2


async def test_signed_receipts_follow_a_send_to_its_own_callback_url(stage: Stage) -> None:
    async with receiving() as ours, stage.twilio() as twilio:
        callback = ours.url + "?message=0198-a%20b&tenant=t#rc=5&rp=all"
        sent = await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola", status_callback=callback)
        receipts = await ours.got(3)
        assert (await twilio.messages(sent.sid).fetch_async()).status == "read"
    assert [receipt.form["MessageStatus"] for receipt in receipts] == ["sent", "delivered", "read"]
    assert [receipt.form.get("EventType") for receipt in receipts] == [None, "DELIVERED", "READ"]
    assert len({receipt.headers["I-Twilio-Idempotency-Token"] for receipt in receipts}) == 3
    for receipt in receipts:
        assert urlparse(receipt.url).query == "message=0198-a%20b&tenant=t"
        assert receipt.signed_by(AUTH_TOKEN)
        assert not receipt.signed_by("another token")
        assert receipt.form["MessageSid"] == sent.sid
        assert (receipt.form["ChannelPrefix"], receipt.form["ChannelToAddress"]) == ("whatsapp", "+521551234XXXX")
    (seen,) = await stage.sandbox.messages()
    assert [(delivery.status, delivery.http_status) for delivery in seen.statuses] == [
        ("sent", 200),
        ("delivered", 200),
        ("read", 200),
    ]


async def test_an_sms_is_not_read_and_its_account_signs(stage: Stage) -> None:
    await stage.sandbox.account(OTHER_SID, OTHER_TOKEN)
    async with receiving() as ours, stage.twilio(OTHER_SID, OTHER_TOKEN) as twilio:
        await twilio.messages.create_async(
            to="+5215512345678", from_="+14155238886", body="hola", status_callback=ours.url
        )
        receipts = await ours.got(2)
    assert [receipt.form["MessageStatus"] for receipt in receipts] == ["sent", "delivered"]
    assert all(receipt.signed_by(OTHER_TOKEN) for receipt in receipts)
    assert "ChannelPrefix" not in receipts[0].form


async def test_sms_after_stop_is_refused_until_start_and_both_are_webhooks(stage: Stage) -> None:
    customer, ours, other = "+5215512345678", "+14155238886", "+14155230000"

    async def sent(sender: str) -> int | None:
        async with stage.twilio() as twilio:
            try:
                await twilio.messages.create_async(to=customer, from_=sender, body="hola")
            except TwilioRestException as refusal:
                return int(refusal.code)
        return None

    async with receiving() as hook:
        for text, sender in (("please stop", customer), ("Stop", customer), ("STOP", CUSTOMER), ("help", customer)):
            to = CHANNEL if sender == CUSTOMER else ours
            await stage.sandbox.customer(sender=sender, to=to, text=text, webhook_url=hook.url)
        assert (await sent(ours), await sent(other)) == (21610, None)
        await stage.sandbox.customer(sender=customer, to=ours, text="unstop", webhook_url=hook.url)
        webhooks = await hook.got(5)
    assert [webhook.form.get("OptOutType") for webhook in webhooks] == [None, "STOP", None, "HELP", "START"]
    assert all(webhook.signed_by(AUTH_TOKEN) for webhook in webhooks)
    assert await sent(ours) is None


async def test_a_receipt_is_retried_when_nobody_listens_and_not_when_refused(stage: Stage) -> None:
    async with receiving() as gone:
        nobody = gone.url
    async with receiving(503) as ours, stage.twilio() as twilio:
        await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="a", status_callback=nobody)
        await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="b", status_callback=ours.url)
        await ours.got(3)
        await asyncio.sleep(0.2)
    unanswered, refused = await stage.sandbox.messages()
    assert [(delivery.http_status, delivery.attempts) for delivery in unanswered.statuses] == [(None, 2)] * 3
    assert [(delivery.http_status, delivery.attempts) for delivery in refused.statuses] == [(503, 1)] * 3


@pytest.mark.parametrize(
    ("answers", "fragment", "attempts", "status"),
    [
        ((503, 0, 200), "#rc=5&rp=all", 3, 200),
        ((503, 200), "", 1, 503),
        ((0, 200), "", 1, None),
        ((307,), "", 1, 307),
    ],
)
async def test_an_inbound_webhook_is_repeated_unchanged_as_its_url_asks(
    stage: Stage, answers: tuple[int, ...], fragment: str, attempts: int, status: int | None
) -> None:
    async with receiving(*answers) as ours:
        answer = await stage.sandbox.customer(sender=CUSTOMER, to=CHANNEL, text="hola", webhook_url=ours.url + fragment)
        repeats = await ours.got(attempts)
    assert (answer.status, answer.attempts) == (status, attempts)
    assert len({webhook.headers["I-Twilio-Idempotency-Token"] for webhook in repeats}) == 1
    assert all(webhook.form == repeats[0].form for webhook in repeats)


async def test_a_customer_writes_and_our_twiml_comes_back(stage: Stage) -> None:
    async with receiving() as ours:
        answer = await stage.sandbox.customer(
            sender=CUSTOMER,
            to=CHANNEL,
            text="¿Están abiertos? 🕊",
            profile_name="Ana",
            webhook_url=ours.url + "?a=1",
            media=[("https://example.com/a.jpg", "image/jpeg")],
            extra={"ButtonPayload": "yes", "NumSegments": None},
        )
        (webhook,) = await ours.got(1)
    assert (answer.status, answer.answer, answer.error) == (200, "<Response></Response>", None)
    assert answer.elapsed_ms > 0
    assert webhook.signed_by(AUTH_TOKEN)
    assert webhook.form["MessageSid"] == answer.message_sid
    shown = ("Body", "ProfileName", "WaId", "NumMedia", "MediaUrl0", "MessageType", "ButtonPayload", "NumSegments")
    assert [webhook.form.get(name) for name in shown] == [
        "¿Están abiertos? 🕊", "Ana", "5215512345678", "1", "https://example.com/a.jpg", "image", "yes", None,
    ]  # fmt: skip


async def test_a_customer_without_a_phone_number_has_no_wa_id(stage: Stage) -> None:
    async with receiving() as ours:
        await stage.sandbox.customer(sender="whatsapp:MX.99887766", to=CHANNEL, text="hola", webhook_url=ours.url)
        (webhook,) = await ours.got(1)
    assert "WaId" not in webhook.form
    assert webhook.form["ExternalUserId"] == "whatsapp:MX.99887766"


async def test_the_same_webhook_can_come_several_times(stage: Stage) -> None:
    async with receiving() as ours:
        answer = await stage.sandbox.customer(sender=CUSTOMER, to=CHANNEL, text="hola", webhook_url=ours.url, times=3)
        repeats = await ours.got(3)
    assert [delivery.status for delivery in answer.deliveries] == [200, 200, 200]
    assert {webhook.form["MessageSid"] for webhook in repeats} == {answer.message_sid}
    assert len({webhook.headers["X-Twilio-Signature"] for webhook in repeats}) == 1


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("webhook_url", {"webhook_url": "http://example.com/"}),
        ("account", {"account": "AC" + "f" * 32}),
        ("account", {"account": "nobody"}),
        ("times", {"times": 0}),
        ("from", {"from": ""}),
        ("body", "not an object"),
    ],
)
async def test_a_bad_control_call_names_the_field(stage: Stage, field: str, change: dict[str, str] | str) -> None:
    said = {"from": CUSTOMER, "to": CHANNEL, "text": "hola", "webhook_url": "http://127.0.0.1:9/"}
    async with aiohttp.ClientSession(stage.base_url) as http:
        body = said | change if isinstance(change, dict) else change
        async with http.post("/sandbox/customer", json=body) as answer:
            assert answer.status == 400
            assert [error["field"] for error in (await answer.json())["errors"]] == [field]


async def test_a_strict_account_refuses_free_form_until_the_customer_writes(stage: Stage) -> None:
    await stage.sandbox.account(OTHER_SID, OTHER_TOKEN, enforce_window=True, window_by="answer", window_seconds=0.5)
    async with receiving() as ours, stage.twilio(OTHER_SID, OTHER_TOKEN) as twilio:
        with pytest.raises(TwilioRestException) as refusal:
            await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
        assert refusal.value.code == 63016
        await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, content_sid=TEMPLATE)
        await stage.sandbox.customer(sender=CUSTOMER, to=CHANNEL, text="hola", webhook_url=ours.url, account=OTHER_SID)
        await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")
        await asyncio.sleep(0.6)
        with pytest.raises(TwilioRestException):
            await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola")


async def test_a_strict_account_tells_the_closed_window_by_receipt(stage: Stage) -> None:
    await stage.sandbox.account(OTHER_SID, OTHER_TOKEN, enforce_window=True)
    async with receiving() as ours, stage.twilio(OTHER_SID, OTHER_TOKEN) as twilio:
        sent = await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="hola", status_callback=ours.url)
        receipts = await ours.got(2)
        fetched = await twilio.messages(sent.sid).fetch_async()
    assert [(receipt.form["MessageStatus"], receipt.form.get("ErrorCode")) for receipt in receipts] == [
        ("sent", None),
        ("undelivered", "63016"),
    ]
    assert (fetched.status, fetched.error_code) == ("undelivered", 63016)


async def test_waiting_ends_with_the_message_or_says_what_was_missing(stage: Stage) -> None:
    waiting = asyncio.create_task(stage.sandbox.wait(to=CUSTOMER, count=2, within=5))
    async with stage.twilio() as twilio:
        for body in ("one", "two"):
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body=body)
    first, second = await asyncio.wait_for(waiting, 2)
    assert (first.body, second.body) == ("one", "two")
    with pytest.raises(TimeoutError, match="1 of 2"):
        await stage.sandbox.wait(to=CUSTOMER, count=2, within=0.1, since=first.seq)
    await stage.sandbox.clear()
    assert await stage.sandbox.messages() == ()


async def test_waiting_since_a_message_is_not_ended_by_an_earlier_one(stage: Stage) -> None:
    await stage.sandbox.faults({"provider": "twilio", "action": "slow", "delay_ms": 100, "times": 1})
    async with stage.twilio() as twilio:
        slow = asyncio.create_task(twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="slow"))
        await asyncio.sleep(0.05)
        (pending,) = await stage.sandbox.messages()
        waiting = asyncio.create_task(stage.sandbox.wait(to=CUSTOMER, since=pending.seq, within=5))
        await slow
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="later")
        assert [seen.body for seen in await waiting] == ["later"]


async def test_the_oldest_messages_make_room() -> None:
    async with playing(keep_messages=3) as stage, stage.twilio() as twilio:
        for number in range(5):
            await twilio.messages.create_async(to=f"whatsapp:+3460000000{number % 2}", from_=CHANNEL, body=str(number))
        assert [seen.body for seen in await stage.sandbox.messages()] == ["2", "3", "4"]
        assert [seen.body for seen in await stage.sandbox.messages(to="whatsapp:+34600000000")] == ["2", "4"]


async def test_stopping_forgets_the_receipts_that_are_still_to_come() -> None:
    async with receiving() as ours:
        async with playing(Delays(sent=0.2, delivered=0.2, read=0.2)) as stage, stage.twilio() as twilio:
            await twilio.messages.create_async(to=CUSTOMER, from_=CHANNEL, body="a", status_callback=ours.url)
        await asyncio.sleep(0.4)
    assert ours.taken == []


async def test_garbage_is_refused_and_the_sandbox_lives(stage: Stage) -> None:
    basic = "Basic " + base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode()
    send = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    async with aiohttp.ClientSession(stage.base_url) as http:
        for method, path, body, status in (
            ("POST", send, b"To=%ff%fe&Body=\xff\xfe", 400),
            ("POST", send, b'{"To": "x"}', 400),
            ("GET", send + "?PageSize=many", b"", 400),
            ("GET", send + "?DateSent%3E=yesterday", b"", 400),
            ("GET", "/2010-04-01/Anything.json", b"", 404),
            ("POST", "/sandbox/customer", b"\xff", 400),
            ("GET", "/sandbox/wait?timeout=nan", b"", 400),
            ("GET", "/sandbox/messages?since=-1", b"", 400),
            ("GET", "/healthz", b"", 200),
            ("GET", "/readyz", b"", 200),
        ):
            headers = {"Authorization": basic, "Content-Type": "application/x-www-form-urlencoded"}
            async with http.request(method, path, data=body, headers=headers) as answer:
                assert answer.status == status, (path, await answer.text())
