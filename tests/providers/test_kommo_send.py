"""One call of Kommo's Chats API and what comes of it: at the sandbox, and at a server that answers as it likes."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from ops.sandbox.kommo_forms import BOT_ID, CHANNEL_SECRET, SCOPE_ID
from shared.domain.model import Media
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RecipientInvalid,
    Refusal,
    Report,
    SentList,
    Throttled,
    Unreachable,
)
from shared.providers.kommo.send import KommoSender, make_sender
from tests.providers.test_kommo_forms import OURS, outgoing
from tests.support.kommo_payloads import CHAT
from tests.support.sandbox_stage import playing

ACCEPTED = {"new_message": {"conversation_id": CHAT, "sender_id": BOT_ID, "msgid": "m9", "ref_id": str(OURS)}}


@contextlib.asynccontextmanager
async def sending_to(url: str, total: float = 5.0, secret: str = CHANNEL_SECRET) -> AsyncIterator[KommoSender]:
    sender = make_sender(json.dumps({"secret": secret, "bot_id": BOT_ID}), api_url=url, timeout=total)
    assert isinstance(sender, KommoSender)
    yield sender
    await sender.close()


class Server:
    """Counts what it is asked and answers what the test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.url = ""
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
        self.says(200, ACCEPTED)

    def says(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text, content_type="application/json", headers=headers)

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await request.read()
        return await self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    played = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    played.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield played
    await runner.cleanup()


# -- at the sandbox, which checks every header -------------------------------------------------------------------------


async def test_texts_files_and_reactions_are_taken_and_found_again() -> None:
    since = datetime.now(UTC)
    async with playing() as stage, sending_to(stage.base_url) as sender:
        message = outgoing(sender=SCOPE_ID)
        assert await sender.find(message, since) == SentList((), complete=False)
        accepted = await sender.send(message)
        assert isinstance(accepted, Accepted)
        file = outgoing(sender=SCOPE_ID, message_id=BOT_ID, media=(Media("https://f.example/a.jpg"),))
        assert isinstance(await sender.send(file), Accepted)
        text, picture = await stage.sandbox.messages(to=CHAT)
        assert (text.sid, text.body, text.sender) == (accepted.external_id, "¡hola!", SCOPE_ID)
        assert picture.media_urls == ("https://f.example/a.jpg",)
        history = await sender.find(message, since)
        assert history is not None
        (found,) = history.entries
        assert (found.external_id, found.message_id, found.text) == (text.sid, OURS, "¡hola!")


async def test_the_secret_is_tried_by_connecting() -> None:
    async with playing() as stage, sending_to(stage.base_url) as sender:
        assert await sender.check(SCOPE_ID) is None
        assert "channel id" in str(await sender.check("another_account"))
        async with sending_to(stage.base_url, secret="wrong") as wrong:
            assert "refuses the channel secret (403)" in str(await wrong.check(SCOPE_ID))
            assert isinstance(await wrong.send(outgoing(sender=SCOPE_ID)), ChannelBroken)
            assert await wrong.find(outgoing(sender=SCOPE_ID), datetime.now(UTC)) is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"action": "429", "retry_after": 2}, Throttled),
        ({"action": "5xx", "status": 503}, Ambiguous),
        ({"action": "error", "code": 904}, RecipientInvalid),
        ({"action": "error", "status": 400, "code": 1}, ContentRejected),
        ({"action": "hang", "seconds": 5}, Ambiguous),
        ({"action": "accept_then_drop"}, Ambiguous),
        ({"action": "drop_before"}, Ambiguous),
    ],
)
async def test_each_fault_of_the_sandbox_has_its_class(fault: dict[str, object], kind: type[Refusal]) -> None:
    async with playing() as stage, sending_to(stage.base_url, total=1.0) as sender:
        await stage.sandbox.faults({"provider": "kommo", "times": 1, **fault})
        assert isinstance(await sender.send(outgoing(sender=SCOPE_ID)), kind)
        assert isinstance(await sender.send(outgoing(sender=SCOPE_ID)), Accepted)


async def test_the_delivery_of_an_agents_message_is_reported_with_its_reason() -> None:
    async with playing() as stage, sending_to(stage.base_url) as sender:
        # An id is the webhook's; whatever it is, it arrives as it was signed.
        for message_id in ("from-eva", "a/b!~%2F'(é"):
            await stage.sandbox.kommo_says(
                "manager", chat_id=CHAT, webhook_url=stage.base_url, through="chats", message_id=message_id
            )
            assert await sender.report(SCOPE_ID, Report(message_id)) is None
            assert await sender.report(SCOPE_ID, Report(message_id)) is None  # may be reported again
            assert await sender.report(SCOPE_ID, Report(message_id, "they stopped")) is None
        reports = await stage.sandbox.kommo_reports()
        assert [(one.status, one.error, one.problem) for one in reports[:3]] == [
            (1, None, ""), (1, None, ""), (-1, 905, "they stopped")
        ]  # fmt: skip
        assert {one.message_id for one in reports[3:]} == {"a/b!~%2F'(é"}
        assert {one.outcome for one in reports} == {"accepted"}
        assert isinstance(await sender.report(SCOPE_ID, Report("nobodys")), ChannelBroken)
        async with sending_to(stage.base_url, secret="wrong") as wrong:
            assert isinstance(await wrong.report(SCOPE_ID, Report("from-eva")), ChannelBroken)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"action": "429", "retry_after": 2}, Throttled),
        ({"action": "5xx", "status": 503}, Ambiguous),
        ({"action": "error", "status": 400, "code": 1}, ContentRejected),
        ({"action": "hang", "seconds": 5}, Ambiguous),
    ],
)
async def test_a_delivery_that_is_not_taken_says_why(fault: dict[str, object], kind: type[Refusal]) -> None:
    async with playing() as stage, sending_to(stage.base_url, total=1.0) as sender:
        about = {"chat_id": CHAT, "webhook_url": stage.base_url, "through": "chats", "message_id": "m1"}
        await stage.sandbox.kommo_says("manager", **about)
        await stage.sandbox.faults({"provider": "kommo", "match": {"body_contains": "delivery status"}, **fault})
        assert isinstance(await sender.report(SCOPE_ID, Report("m1")), kind)
        assert isinstance(await sender.send(outgoing(sender=SCOPE_ID)), Accepted)


# -- whatever answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer", "kind", "code"),
    [
        (400, {"error_code": 905, "error_description": "no"}, ContentRejected, "905"),
        (400, {"error_code": "904"}, RecipientInvalid, "904"),
        (400, "<html>", ContentRejected, "400"),
        (403, {"error": "signature"}, ChannelBroken, "403"),
        (404, "", ChannelBroken, "404"),
        (429, "", Throttled, "429"),
        (502, "<html>", Ambiguous, "502"),
        (200, "<html>", Ambiguous, "unreadable"),
        (200, "", Ambiguous, "unreadable"),
        (200, [], Ambiguous, "unreadable"),
        (200, {"new_message": {"msgid": None}}, Ambiguous, "unreadable"),
        (200, "x" * 3_000_000, Ambiguous, "unreadable"),
    ],
)
async def test_each_answer_has_its_class_and_is_asked_for_once(
    server: Server, status: int, answer: object, kind: type[Refusal], code: str
) -> None:
    server.says(status, answer)
    async with sending_to(server.url) as sender:
        refused = await sender.send(outgoing())
    assert isinstance(refused, kind)
    assert refused.code == code
    assert server.asked == 1


async def test_what_cannot_be_sent_is_refused_before_the_call(server: Server) -> None:
    async with sending_to(server.url) as sender:
        for text in ("", "half \ud83d", "x" * 5000):
            assert isinstance(await sender.send(outgoing(text=text)), ContentRejected)
    assert server.asked == 0


async def test_a_redirect_is_not_followed(server: Server) -> None:
    server.says(307, "", {"Location": server.url})
    async with sending_to(server.url) as sender:
        assert isinstance(await sender.send(outgoing()), ChannelBroken)
    assert server.asked == 1


async def test_throttled_as_long_as_the_answer_says(server: Server) -> None:
    server.says(429, {}, {"Retry-After": "7"})
    async with sending_to(server.url) as sender:
        assert await sender.send(outgoing()) == Throttled("429", 7.0)


async def test_no_answer_in_time_is_ambiguous(server: Server) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    server.answer = hang
    async with sending_to(server.url, total=0.5) as sender:
        assert await sender.send(outgoing()) == Ambiguous("timeout", "no answer within 0.5 s")


async def test_nobody_listening_and_no_address_are_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for url in (refusing, "http://nowhere.invalid"):
            async with sending_to(url, total=4) as sender:
                assert isinstance(await sender.send(outgoing()), Unreachable), url
    async with sending_to("http://nowhere.invalid") as sender:
        assert "PALOMAR_KOMMO_API_URL" in str(await sender.check(SCOPE_ID))


@pytest.mark.parametrize("answer", ["<html>", [], {"messages": "x"}, {"messages": [1, {"message": 2}]}, "", {}])
async def test_a_history_that_cannot_be_read_finds_nothing(server: Server, answer: object) -> None:
    server.says(200, answer)
    async with sending_to(server.url) as sender:
        assert await sender.find(outgoing(), datetime.now(UTC)) in (None, SentList((), complete=False))


@pytest.mark.parametrize(
    ("status", "answer", "named"),
    [
        (200, {"scope_id": "another"}, "calls this channel in this account another"),
        (500, {}, "try again"),
        (200, "<html>", "not Kommo"),
    ],
)
async def test_credentials_that_do_not_work_say_what_to_do(
    server: Server, status: int, answer: object, named: str
) -> None:
    server.says(status, answer)
    async with sending_to(server.url) as sender:
        assert named in str(await sender.check(SCOPE_ID))


async def test_neither_chat_nor_text_nor_secret_is_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.says(400, {"error_description": "5215512345678 is nobody"})
    async with sending_to(server.url) as sender:
        refused = await sender.send(outgoing(text="secret words"))
    said = caplog.text + repr(refused)
    for secret in ("5215512345678", "secret words", CHANNEL_SECRET):
        assert secret not in said


@pytest.mark.parametrize(
    "credentials", ["{}", '{"secret": "", "bot_id": "b"}', '{"secret": "no JSON", "bot_id": "a b"}', "[]", "no JSON"]
)
async def test_credentials_of_another_shape_are_refused_without_their_values(credentials: str) -> None:
    with pytest.raises(ValueError, match="Kommo credentials") as refused:
        make_sender(credentials, api_url="https://amojo.example", timeout=1)
    assert "no JSON" not in str(refused.value)


async def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="kommo_api_url"):
        make_sender(json.dumps({"secret": "s", "bot_id": BOT_ID}), api_url="amojo.example", timeout=1)
