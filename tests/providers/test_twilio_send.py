"""Sending through Twilio's own SDK, over HTTP, to a server that answers as Twilio may."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import encode_basic_auth, web
from pydantic import SecretStr

from shared.domain.model import Button, Interactive, Media, Reaction, Template
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RawWebhook,
    Refusal,
    Throttled,
    Unreachable,
    WindowClosed,
)
from shared.providers.twilio.send import TwilioSender
from shared.providers.twilio.webhooks import parse
from tests.support.twilio_stage import (
    ACCOUNT,
    CREATED,
    CREDENTIALS,
    OURS,
    SINCE,
    Provider,
    outgoing,
    playing,
    sending_to,
)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with playing() as provider:
        yield provider


@pytest.fixture
async def sender(provider: Provider) -> AsyncIterator[TwilioSender]:
    async with sending_to(provider) as sender:
        yield sender


@pytest.fixture
async def hasty(provider: Provider) -> AsyncIterator[TwilioSender]:
    """A sender that gives up after half a second."""
    async with sending_to(provider, total=0.5) as sender:
        yield sender


# -- what is asked -----------------------------------------------------------------------------------------------------


async def test_a_whatsapp_message(provider: Provider, sender: TwilioSender) -> None:
    assert await sender.send(outgoing()) == Accepted("SM1")
    fields = {
        "To": ["whatsapp:+5215512345678"],
        "From": ["whatsapp:+14155238886"],
        "Body": ["¡hola! 1+1=2 & más"],
    }
    assert provider.asked == [("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json", fields)]
    assert provider.logins == [encode_basic_auth(ACCOUNT, "token")]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"channel_kind": "sms"}, {"To": ["+5215512345678"], "From": ["+14155238886"]}),
        ({"recipient": "5215512345678"}, {"To": ["whatsapp:+5215512345678"]}),
        ({"recipient": "US.13491208655302741918"}, {"To": ["whatsapp:US.13491208655302741918"]}),
        ({"recipient": "12345", "channel_kind": "sms"}, {"To": ["12345"]}),
        ({"sender": "MG0001"}, {"MessagingServiceSid": ["MG0001"], "From": None}),
        ({"media": (Media("https://m/0"), Media("https://m/1"))}, {"MediaUrl": ["https://m/0", "https://m/1"]}),
        ({"text": "", "media": (Media("https://m/0"),)}, {"Body": None}),
        ({"text": "x" * 1600}, {"Body": ["x" * 1600]}),
        ({"text": "a\ud800b"}, {"Body": ["a?b"]}),
        (
            {"template": Template("HX1", {"1": "Ana ñ"}), "text": "x" * 5000, "media": (Media("https://m/0"),)},
            {"ContentSid": ["HX1"], "ContentVariables": ['{"1": "Ana \\u00f1"}'], "Body": None, "MediaUrl": None},
        ),
        (
            {"template": Template("HX1", {"1": "a\nb", "2": ""})},
            {"ContentVariables": ['{"1": "a b", "2": "-"}']},
        ),
        (
            {"template": Template("HX1", {"1": "a\nb", "2": ""}), "channel_kind": "sms"},
            {"ContentVariables": ['{"1": "a\\nb", "2": "-"}']},
        ),
        ({"template": Template("HX1")}, {"ContentSid": ["HX1"], "ContentVariables": None}),
        ({"webhook_url": None}, {"StatusCallback": None}),
        (
            {"webhook_url": "https://p.example/webhooks/twilio/1"},
            {"StatusCallback": [f"https://p.example/webhooks/twilio/1/status?m={OURS}#rc=5&rp=all"]},
        ),
    ],
)
async def test_the_parts_of_a_message(
    provider: Provider, sender: TwilioSender, changed: dict[str, Any], expected: dict[str, list[str] | None]
) -> None:
    assert await sender.send(outgoing(**changed)) == Accepted("SM1")
    fields = provider.asked[0][2]
    assert {name: fields.get(name) for name in expected} == expected


async def test_the_id_we_send_is_the_id_a_receipt_brings_back(provider: Provider, sender: TwilioSender) -> None:
    await sender.send(outgoing(webhook_url="https://p.example/webhooks/twilio/1"))
    url = provider.asked[0][2]["StatusCallback"][0]
    parsed = parse(
        RawWebhook("POST", url, "application/x-www-form-urlencoded", {}, b"MessageSid=SM1&MessageStatus=sent")
    )
    assert parsed.receipts[0].message_id == OURS


async def test_an_api_key_makes_the_calls_where_there_is_one(provider: Provider) -> None:
    credentials = CREDENTIALS.model_copy(update={"api_key": "SK1", "api_secret": SecretStr("secret")})
    sender = TwilioSender(credentials, timeout=5, base_url=provider.url)
    await sender.send(outgoing())
    await sender.close()
    assert provider.logins == [encode_basic_auth("SK1", "secret")]
    assert provider.asked[0][1] == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "x" * 1601},
        {"channel_kind": "email"},
        {"interactive": Interactive(buttons=(Button("y", "Sí"),))},
        {"reaction": Reaction("SM0", "🕊")},
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_call(
    provider: Provider, sender: TwilioSender, changed: dict[str, Any]
) -> None:
    assert isinstance(await sender.send(outgoing(**changed)), ContentRejected | ChannelBroken)
    assert provider.asked == []


async def test_the_error_of_a_text_too_long_names_the_limit(sender: TwilioSender) -> None:
    refused = await sender.send(outgoing(text="x" * 1601))
    assert refused == ContentRejected("21617", "text: 1601 characters; Twilio takes at most 1600")


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "code"),
    [
        (400, {"code": 63016, "message": "outside the window", "status": 400}, {}, WindowClosed, "63016"),
        (400, {"code": 12345, "message": "?", "status": 400}, {}, ContentRejected, "12345"),
        (400, {"type": "t", "title": "no", "status": 400, "code": 63016}, {}, WindowClosed, "63016"),
        (400, "<html>", {}, ContentRejected, "400"),
        (401, {"code": 20003, "message": "Authenticate"}, {}, ChannelBroken, "20003"),
        (403, "[1]", {}, ChannelBroken, "403"),
        (307, "", {"Location": "https://elsewhere.example/"}, ChannelBroken, "307"),
        (500, {"code": 20500, "message": "oops"}, {}, Ambiguous, "20500"),
        (503, "", {"Retry-After": "1"}, Ambiguous, "503"),
        (201, "<html>", {}, Ambiguous, "unreadable"),
        (201, "", {}, Ambiguous, "unreadable"),
        (201, [], {}, Ambiguous, "unreadable"),
        (201, {}, {}, Ambiguous, "unreadable"),
        (201, {**CREATED, "sid": 5}, {}, Ambiguous, "unreadable"),
        (201, {**CREATED, "date_created": 5}, {}, Ambiguous, "unreadable"),
        (200, "x" * 3_000_000, {}, Ambiguous, "unreadable"),
    ],
)
async def test_each_answer_has_its_class_and_is_asked_for_once(
    provider: Provider,
    sender: TwilioSender,
    status: int,
    body: object,
    headers: dict[str, str],
    kind: type[Refusal],
    code: str,
) -> None:
    provider.answer = provider.answering(status, body, headers)
    refused = await sender.send(outgoing())
    assert isinstance(refused, kind)
    assert refused.code == code
    assert len(provider.asked) == 1


async def test_throttled_as_long_as_twilio_says(provider: Provider, sender: TwilioSender) -> None:
    provider.answer = provider.answering(429, {"code": 20429, "message": "slow"}, {"Retry-After": "7"})
    assert await sender.send(outgoing()) == Throttled("20429", 7.0, "slow")


async def test_no_answer_in_time_is_ambiguous(provider: Provider, hasty: TwilioSender) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    provider.answer = hang
    assert await hasty.send(outgoing()) == Ambiguous("timeout", "no answer within 0.5 s")


async def test_an_answer_that_trickles_is_cut_at_the_total(provider: Provider, hasty: TwilioSender) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                await answer.write(b" ")
                await asyncio.sleep(0.05)
        return answer

    provider.answer = trickle
    began = asyncio.get_running_loop().time()
    assert isinstance(await hasty.send(outgoing()), Ambiguous)
    assert asyncio.get_running_loop().time() - began < 3


async def test_a_connection_lost_after_the_request_is_ambiguous_and_not_repeated(
    provider: Provider, sender: TwilioSender
) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert await sender.send(outgoing()) == Accepted("SM1")  # the connection is now kept alive
    provider.answer = drop
    assert isinstance(await sender.send(outgoing()), Ambiguous)
    assert len(provider.asked) == 2


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        sender = TwilioSender(CREDENTIALS, timeout=1, base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        refused = await sender.send(outgoing())
        await sender.close()
    assert isinstance(refused, Unreachable)


@pytest.mark.parametrize("base_url", ["http://nowhere.invalid", "https://{server}"])
async def test_no_address_and_no_tls_are_unreachable(provider: Provider, base_url: str) -> None:
    sender = TwilioSender(CREDENTIALS, timeout=2, base_url=base_url.replace("{server}", provider.url[7:]))
    refused = await sender.send(outgoing())
    await sender.close()
    assert isinstance(refused, Unreachable)


async def test_a_connection_that_is_never_accepted_is_unreachable_before_the_total() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(3):  # fill the kernel's queue, so that further connections get no answer
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(address)
            sender = TwilioSender(CREDENTIALS, timeout=1, base_url=f"http://127.0.0.1:{address[1]}")
            refused = await sender.send(outgoing())
            await sender.close()
    assert isinstance(refused, Unreachable)


async def test_being_cancelled_is_for_the_caller_to_judge(provider: Provider, sender: TwilioSender) -> None:
    started = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        started.set()
        await asyncio.sleep(30)
        return web.Response()

    provider.answer = hang
    sending = asyncio.create_task(sender.send(outgoing()))
    await asyncio.wait_for(started.wait(), 5)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_many_sends_at_once_keep_their_answers_apart(provider: Provider) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        fields = dict(parse_qsl(await request.text()))
        return web.json_response({**CREATED, "sid": fields["Body"]}, status=201)

    provider.answer = echo
    async with sending_to(provider, total=10) as sender:  # sixty share a busy machine
        results = await asyncio.gather(*(sender.send(outgoing(text=f"SM{number}")) for number in range(60)))
    assert results == [Accepted(f"SM{number}") for number in range(60)]


async def test_neither_number_nor_text_nor_token_is_logged(
    provider: Provider, sender: TwilioSender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await sender.send(outgoing(text="secret words"))
    provider.answer = provider.answering(400, {"code": 21211, "message": "bad +5215512345678"})
    refused = await sender.send(outgoing(text="secret words"))
    await sender.find(outgoing(), SINCE)
    said = caplog.text + repr(refused)
    assert not any(secret in said for secret in ("5512345678", "secret words", "token"))
