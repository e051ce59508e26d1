"""The sandbox as Meta: what our sender and our parser meet there, and faults on demand."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from ops.sandbox.client import SandboxError
from ops.sandbox.meta_forms import ACCESS_TOKEN, APP_SECRET, PHONE_NUMBER_ID
from shared.domain.model import Button, Interactive, Reaction, Template
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    Parsed,
    RawWebhook,
    Refusal,
    SendResult,
    Throttled,
    WindowClosed,
)
from shared.providers.meta.send import make_sender
from shared.providers.meta.signature import verify
from shared.providers.meta.webhooks import parse
from tests.providers.test_meta_forms import OURS, outgoing
from tests.support.sandbox_stage import Stage, playing

CUSTOMER = "5215512345678"
USER_ID = "MX.4566546130240823"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with playing() as stage:
        yield stage


class App:
    """An app's webhook URL: checks each signature, parses each body."""

    def __init__(self) -> None:
        self.url = ""
        self.read: list[Parsed] = []
        self.status = 200
        self._arrived = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        raw = RawWebhook("POST", str(request.url), request.content_type, request.headers, body)
        assert verify(raw, (APP_SECRET,))
        signed = "sha256=" + hmac.new(APP_SECRET.encode(), body, "sha256").hexdigest()
        assert request.headers["X-Hub-Signature-256"] == signed
        status = self.status
        if status == 200:
            self.read.append(parse(raw))
            self._arrived.set()
        self.status = 200
        return web.Response(status=status)

    async def statuses(self, count: int) -> list[str]:
        """What the receipts said, in order, once there are so many."""
        async with asyncio.timeout(10):
            while len(statuses := [receipt.status for parsed in self.read for receipt in parsed.receipts]) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return statuses


@asynccontextmanager
async def listening() -> AsyncIterator[App]:
    app, server = App(), web.Application()
    server.router.add_post("/hook", app.take)
    async with TestServer(server) as running:
        app.url = str(running.make_url("/hook"))
        yield app


async def send(stage: Stage, token: str = ACCESS_TOKEN, sender: str = PHONE_NUMBER_ID, **fields: object) -> SendResult:
    through = make_sender(json.dumps({"access_token": token}), api_url=f"{stage.base_url}/v24.0", timeout=1)
    try:
        return await through.send(outgoing(sender=sender, **fields))
    finally:
        await through.close()


async def test_a_message_is_taken_and_its_receipts_bring_our_id_back(stage: Stage) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url)
        taken = await send(stage)
        assert isinstance(taken, Accepted)
        assert await app.statuses(3) == ["sent", "delivered", "read"]
        receipts = [receipt for parsed in app.read for receipt in parsed.receipts]
    assert {(one.external_id, one.message_id) for one in receipts} == {(taken.external_id, OURS)}
    assert {(one.channel_address, one.recipient) for one in receipts} == {(PHONE_NUMBER_ID, "+525512345678")}
    (seen,) = await stage.sandbox.messages(to=CUSTOMER)
    assert (seen.provider, seen.sender, seen.body, seen.status) == ("meta", PHONE_NUMBER_ID, "¡hola!", "read")


@pytest.mark.parametrize("sender", [CUSTOMER, f"+{CUSTOMER}", USER_ID])
async def test_a_customer_writes(stage: Stage, sender: str) -> None:
    async with listening() as app:
        answer = await stage.sandbox.meta_customer(sender=sender, webhook_url=app.url, text="hola", profile_name="Ana")
        (message,) = app.read[0].messages
    assert (answer.status, answer.message_sid) == (200, message.external_id)
    assert (message.text, message.contact_name, message.channel_address) == ("hola", "Ana", PHONE_NUMBER_ID)
    assert message.sender[0].given == (f"+{CUSTOMER}" if CUSTOMER in sender else sender)


async def test_a_customers_message_may_be_of_any_type_and_come_often(stage: Stage) -> None:
    picture = {"type": "image", "text": None, "image": {"id": "1", "mime_type": "image/jpeg"}}
    async with listening() as app:
        await stage.sandbox.meta_customer(sender=CUSTOMER, webhook_url=app.url, message=picture, times=3)
        assert [parsed.messages[0].message_type for parsed in app.read] == ["image"] * 3
    assert len({parsed.messages[0].external_id for parsed in app.read}) == 1


async def test_a_webhook_that_is_not_taken_comes_again(stage: Stage) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url)
        app.status = 503
        await send(stage)
        assert sorted(await app.statuses(3)) == ["delivered", "read", "sent"]


async def test_what_else_may_be_sent_is_taken(stage: Stage) -> None:
    buttons = Interactive(buttons=(Button("y", "Sí"),))
    assert isinstance(await send(stage, interactive=buttons), Accepted)
    assert isinstance(await send(stage, template=Template("hello", {"1": "Ana"}, "es_MX")), Accepted)
    assert isinstance(await send(stage, reaction=Reaction("wamid.1", "🕊")), Accepted)
    assert isinstance(await send(stage, recipient=USER_ID), Accepted)
    tapped, template, reaction, to_user_id = await stage.sandbox.messages()
    assert (tapped.body, "Sí" in str(tapped.content_variables)) == ("¡hola!", True)
    assert (template.content_sid, "Ana" in str(template.content_variables)) == ("hello", True)
    assert (reaction.body, to_user_id.to) == ("🕊", USER_ID)


async def test_a_customers_message_is_marked_as_read_and_nothing_else_can_be(stage: Stage) -> None:
    async with listening() as app:
        answer = await stage.sandbox.meta_customer(sender=CUSTOMER, webhook_url=app.url, text="hola")
    sender = make_sender(json.dumps({"access_token": ACCESS_TOKEN}), api_url=f"{stage.base_url}/v24.0", timeout=2)
    assert await sender.show_read(PHONE_NUMBER_ID, str(answer.message_sid), typing=True) is None
    refused = await sender.show_read(PHONE_NUMBER_ID, "wamid.of-nobody", typing=False)
    await sender.close()
    assert isinstance(refused, ContentRejected)
    reads = await stage.sandbox.meta_reads()
    assert [(read.message_id, read.typing, read.outcome) for read in reads] == [
        (answer.message_sid, True, "accepted"),
        ("wamid.of-nobody", False, "refused"),
    ]
    assert await stage.sandbox.messages() == ()


@pytest.mark.parametrize("window_by", ["answer", "receipt"])
async def test_a_strict_number_knows_the_window(stage: Stage, window_by: str) -> None:
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url, enforce_window=True, window_by=window_by)
        refused = await send(stage)
        if window_by == "answer":
            assert isinstance(refused, WindowClosed)
        else:
            assert await app.statuses(1) == ["failed"]
            assert app.read[0].receipts[0].error_code == "131047"
        assert isinstance(await send(stage, template=Template("hello", {}, "es_MX")), Accepted)
        await stage.sandbox.meta_customer(sender=CUSTOMER, webhook_url=app.url, text="hola")
        await send(stage)
        (*_, last) = await stage.sandbox.messages(to=CUSTOMER)
        assert last.outcome == "accepted"


@pytest.mark.parametrize(
    ("rule", "kind", "code"),
    [
        ({"action": "429", "retry_after": 2}, Throttled, "130429"),
        ({"action": "5xx"}, Ambiguous, "2"),
        ({"action": "error", "code": 131056}, Throttled, "131056"),
        ({"action": "error", "code": 190, "status": 401}, ChannelBroken, "190"),
        ({"action": "drop_before"}, Ambiguous, "unreadable"),
        ({"action": "accept_then_drop"}, Ambiguous, "unreadable"),
        ({"action": "hang"}, Ambiguous, "timeout"),
    ],
)
async def test_faults_on_demand(stage: Stage, rule: dict[str, object], kind: type[Refusal], code: str) -> None:
    await stage.sandbox.faults({"provider": "meta", "times": 1, **rule})
    refused = await send(stage)
    assert isinstance(refused, kind)
    assert refused.code == code
    assert isinstance(await send(stage), Accepted)


async def test_a_receipt_may_say_that_it_failed(stage: Stage) -> None:
    fault = {"provider": "meta", "action": "receipt_error", "code": 131026, "after_sent": False}
    await stage.sandbox.faults(fault)
    async with listening() as app:
        await stage.sandbox.meta_number(PHONE_NUMBER_ID, webhook_url=app.url)
        await send(stage)
        assert await app.statuses(1) == ["failed"]
    receipt = app.read[0].receipts[0]
    assert (receipt.error_code, receipt.error_message) == ("131026", "Message undeliverable")


@pytest.mark.parametrize(
    ("token", "number", "code"), [("another", PHONE_NUMBER_ID, "190"), (ACCESS_TOKEN, "999999", "100")]
)
async def test_strangers_are_refused(stage: Stage, token: str, number: str, code: str) -> None:
    refused = await send(stage, token, number)
    assert isinstance(refused, ChannelBroken)
    assert refused.code == code


@pytest.mark.parametrize(
    ("kind", "part", "code"),
    [
        ("text", {"body": ""}, 131009),
        ("text", "hola", 100),
        ("dance", {"body": "x"}, 100),
        ("image", {}, 131008),
        ("image", {"link": "https://a.example/1.jpg", "caption": "x" * 1025}, 131009),
        ("template", {"name": "hello", "language": "es"}, 131008),
        ("reaction", {"emoji": "🕊"}, 131008),
        ("interactive", {"type": "button", "body": "x", "action": []}, 131009),
        ("interactive", {"type": "button", "body": {"text": "x"}, "action": {"buttons": [1]}}, 131009),
        (
            "interactive",
            {
                "type": "button",
                "body": {"text": "x"},
                "action": {"buttons": [{"reply": {"id": "1", "title": "x" * 21}}]},
            },
            131009,
        ),
    ],
)
async def test_what_meta_would_not_take_the_sandbox_does_not_either(
    stage: Stage, kind: str, part: object, code: int
) -> None:
    asked = {"messaging_product": "whatsapp", "to": CUSTOMER, "type": kind, kind: part}
    login = {"Authorization": f"Bearer {ACCESS_TOKEN}"}
    url = f"{stage.base_url}/v24.0/{PHONE_NUMBER_ID}/messages"
    async with ClientSession(headers=login) as session, session.post(url, json=asked) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, code)
    assert await stage.sandbox.messages() == ()


async def test_credentials_are_tried(stage: Stage) -> None:
    for token, number, fine in (
        (ACCESS_TOKEN, PHONE_NUMBER_ID, True),
        ("x", PHONE_NUMBER_ID, False),
        (ACCESS_TOKEN, "9", False),
    ):
        sender = make_sender(json.dumps({"access_token": token}), api_url=f"{stage.base_url}/v24.0", timeout=2)
        assert (await sender.check(number) is None) is fine
        await sender.close()


async def test_what_the_sandbox_does_not_know_is_named(stage: Stage) -> None:
    with pytest.raises(SandboxError, match="phone_number_id"):
        await stage.sandbox.meta_customer(sender=CUSTOMER, webhook_url="http://127.0.0.1:1/", phone_number_id="999999")
    with pytest.raises(SandboxError, match="loopback"):
        await stage.sandbox.meta_number("999999", webhook_url="https://example.com/hook")
