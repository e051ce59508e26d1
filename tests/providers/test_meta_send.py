"""One call of the Graph API and what comes of it, against a server that answers as Meta may, or worse."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from shared.domain.model import Template
from shared.providers.base import (
    Accepted,
    Ambiguous,
    ChannelBroken,
    ContentRejected,
    RecipientInvalid,
    Refusal,
    Throttled,
    Unreachable,
    WindowClosed,
)
from shared.providers.meta.send import MetaSender, make_sender
from shared.providers.meta.webhooks import parse
from tests.providers.test_meta_forms import OURS, outgoing
from tests.support.meta_payloads import body, entry, raw, receipt_json, value

TOKEN = "EAAtestTokenOfNobody0123456789"
NUMBER = "106540352242922"
ACCEPTED = {"messaging_product": "whatsapp", "contacts": [{"wa_id": "5215512345678"}], "messages": [{"id": "wamid.1"}]}


class Graph:
    """A server that notes what it is asked and answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any]] = []
        self.url = ""
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
        self.says(200, ACCEPTED)

    def says(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text, content_type="application/json", headers=headers)

        self.answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.asked.append((request.method, request.path, request.headers["Authorization"], json.loads(text or "null")))
        return await self.answer(request)


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    played = Graph()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    played.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield played
    await runner.cleanup()


@contextlib.asynccontextmanager
async def sending_to(url: str, total: float = 5.0) -> AsyncIterator[MetaSender]:
    sender = make_sender(json.dumps({"access_token": TOKEN}), api_url=f"{url}/v24.0", timeout=total)
    assert isinstance(sender, MetaSender)
    yield sender
    await sender.close()


@pytest.fixture
async def sender(graph: Graph) -> AsyncIterator[MetaSender]:
    async with sending_to(graph.url) as one:
        yield one


@pytest.fixture
async def hasty(graph: Graph) -> AsyncIterator[MetaSender]:
    """A sender that gives up after half a second."""
    async with sending_to(graph.url, total=0.5) as one:
        yield one


def error(code: int | str | None, status: int = 400, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": "(#1) no", "type": "OAuthException", "code": code, "fbtrace_id": "x", **more}}


# -- what is asked -----------------------------------------------------------------------------------------------------


async def test_a_message_is_posted_to_the_channels_number_with_its_token(graph: Graph, sender: MetaSender) -> None:
    assert await sender.send(outgoing()) == Accepted("wamid.1")
    method, path, login, posted = graph.asked[0]
    assert (method, path, login) == ("POST", f"/v24.0/{NUMBER}/messages", f"Bearer {TOKEN}")
    assert posted["text"]["body"] == "¡hola!"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"template": Template("oferta", {"1": "Ana"}, "es_MX"), "marketing": True}, "marketing_messages"),
        ({"template": Template("oferta", {"1": "Ana"}, "es_MX")}, "messages"),
        ({"marketing": True}, "messages"),  # that path takes templates only
    ],
)
async def test_a_marketing_template_may_have_a_path_of_its_own(
    graph: Graph, sender: MetaSender, fields: dict[str, Any], path: str
) -> None:
    assert await sender.send(outgoing(**fields)) == Accepted("wamid.1")
    ((method, posted_to, _, body),) = graph.asked
    assert (method, posted_to) == ("POST", f"/v24.0/{NUMBER}/{path}")
    await sender.send(outgoing(**{**fields, "marketing": False}))
    assert graph.asked[1][3] == body, "the same body by either path"


@pytest.mark.parametrize(
    ("message_status", "held"),
    [
        ("accepted", False),
        ("held_for_quality_assessment", True),
        ("paused", True),
        ("a new word of theirs", False),
        (None, False),
        ({}, False),
    ],
)
async def test_the_answer_says_whether_the_message_is_held(
    graph: Graph, sender: MetaSender, message_status: object, held: bool
) -> None:
    graph.says(200, {**ACCEPTED, "messages": [{"id": "wamid.1", "message_status": message_status}]})
    assert await sender.send(outgoing()) == Accepted("wamid.1", held=held)


async def test_the_id_we_send_is_the_id_a_receipt_brings_back(graph: Graph, sender: MetaSender) -> None:
    await sender.send(outgoing())
    opaque = graph.asked[0][3]["biz_opaque_callback_data"]
    receipt = parse(raw(body(entry(value(statuses=(receipt_json(biz_opaque_callback_data=opaque),)))))).receipts[0]
    assert receipt.message_id == OURS


@pytest.mark.parametrize("changed", [{"text": "x" * 4097}, {"text": "half \ud83d"}, {"channel_kind": "sms"}])
async def test_what_cannot_be_sent_is_refused_before_the_call(
    graph: Graph, sender: MetaSender, changed: dict[str, Any]
) -> None:
    assert isinstance(await sender.send(outgoing(**changed)), ContentRejected | ChannelBroken)
    assert graph.asked == []


async def test_meta_lists_nothing_so_nothing_is_looked_up(graph: Graph, sender: MetaSender) -> None:
    assert await sender.find(outgoing(), datetime.now(UTC)) is None
    assert graph.asked == []


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (error(131047), WindowClosed, "131047"),
        (error("131047"), WindowClosed, "131047"),
        (error(131056), Throttled, "131056"),
        (error(130429, 429), Throttled, "130429"),
        (error(190, 401), ChannelBroken, "190"),
        (error(0, 401), ChannelBroken, "0"),
        (error(100, error_subcode=33), ChannelBroken, "100"),
        (error(100), ContentRejected, "100"),
        (error(131016, 500), Unreachable, "131016"),
        (error(131000, 500), Ambiguous, "131000"),
        (error(2, 503), Ambiguous, "2"),
        (error(None, 500), Ambiguous, "500"),
        ((400, "<html>"), ContentRejected, "400"),
        ((400, {"error": "text"}), ContentRejected, "400"),
        ((404, ""), ChannelBroken, "404"),
        ((429, ""), Throttled, "429"),
        ((502, "<html>"), Ambiguous, "502"),
        ((200, "<html>"), Ambiguous, "unreadable"),
        ((200, ""), Ambiguous, "unreadable"),
        ((200, []), Ambiguous, "unreadable"),
        ((200, {}), Ambiguous, "unreadable"),
        ((200, {"messages": []}), Ambiguous, "unreadable"),
        ((200, {"messages": [{"id": None}]}), Ambiguous, "unreadable"),
        ((200, "x" * 3_000_000), Ambiguous, "unreadable"),
    ],
)
async def test_each_answer_has_its_class_and_is_asked_for_once(
    graph: Graph, sender: MetaSender, answer: tuple[int, object], kind: type[Refusal], code: str
) -> None:
    graph.says(*answer)
    refused = await sender.send(outgoing())
    assert isinstance(refused, kind)
    assert refused.code == code
    assert len(graph.asked) == 1


@pytest.mark.parametrize(
    ("recipient", "asked"),
    [
        ("5215512345678", ["5215512345678", "525512345678"]),
        ("+525512345678", ["525512345678", "5215512345678"]),
        ("5491123456789", ["5491123456789", "541123456789"]),
        ("541123456789", ["541123456789", "5491123456789"]),
        ("5511987654321", ["5511987654321"]),  # Brazil's two forms may be two people
        ("34600000001", ["34600000001"]),
    ],
)
async def test_a_number_that_meta_refuses_is_tried_once_more_in_its_other_spelling(
    graph: Graph, sender: MetaSender, recipient: str, asked: list[str]
) -> None:
    graph.says(*error(131030))
    refused = await sender.send(outgoing(recipient=recipient))
    assert isinstance(refused, RecipientInvalid)
    assert [posted["to"].removeprefix("+") for _, _, _, posted in graph.asked] == asked


async def test_the_other_spelling_is_what_the_provider_takes(graph: Graph, sender: MetaSender) -> None:
    async def only_without(request: web.Request) -> web.StreamResponse:
        taken = (await request.json())["to"] == "541123456789"
        status, answer = (200, {"messages": [{"id": "wamid.1"}]}) if taken else error(131030)
        return web.json_response(answer, status=status)

    graph.answer = only_without
    assert await sender.send(outgoing(recipient="5491123456789")) == Accepted("wamid.1")


async def test_another_refusal_is_not_tried_in_another_spelling(graph: Graph, sender: MetaSender) -> None:
    graph.says(*error(131026))
    assert isinstance(await sender.send(outgoing(recipient="5215512345678")), RecipientInvalid)
    assert len(graph.asked) == 1


async def test_a_redirect_is_not_followed(graph: Graph, sender: MetaSender) -> None:
    graph.says(307, "", {"Location": graph.url})
    assert isinstance(await sender.send(outgoing()), ChannelBroken)
    assert len(graph.asked) == 1


async def test_throttled_as_long_as_the_answer_says(graph: Graph, sender: MetaSender) -> None:
    graph.says(*error(130429, 429), {"Retry-After": "7"})
    assert await sender.send(outgoing()) == Throttled("130429", 7.0, "(#1) no")


async def test_the_details_tell_more_than_the_message(graph: Graph, sender: MetaSender) -> None:
    graph.says(*error(131026, error_data={"messaging_product": "whatsapp", "details": "not on WhatsApp"}))
    refused = await sender.send(outgoing())
    assert not isinstance(refused, Accepted)
    assert refused.detail == "not on WhatsApp"


async def test_no_answer_in_time_is_ambiguous(graph: Graph, hasty: MetaSender) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    graph.answer = hang
    assert await hasty.send(outgoing()) == Ambiguous("timeout", "no answer within 0.5 s")


async def test_an_answer_that_trickles_is_cut_at_the_total(graph: Graph, hasty: MetaSender) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                await answer.write(b" ")
                await asyncio.sleep(0.05)
        return answer

    graph.answer = trickle
    assert isinstance(await asyncio.wait_for(hasty.send(outgoing()), 10), Ambiguous)


async def test_a_connection_lost_after_the_request_is_ambiguous_and_not_repeated(
    graph: Graph, sender: MetaSender
) -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert await sender.send(outgoing()) == Accepted("wamid.1")  # the connection is now kept alive
    graph.answer = drop
    assert isinstance(await sender.send(outgoing()), Ambiguous)
    assert len(graph.asked) == 2


async def test_nobody_listening_no_address_and_no_tls_are_unreachable(graph: Graph) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for url in (refusing, "http://nowhere.invalid", graph.url.replace("http", "https")):
            async with sending_to(url, total=4) as sender:
                assert isinstance(await sender.send(outgoing()), Unreachable), url


async def test_neither_number_nor_text_nor_token_is_logged(
    graph: Graph, sender: MetaSender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    graph.says(*error(131026, message=f"5215512345678 with {TOKEN}"))
    refused = await sender.send(outgoing(text="secret words"))
    said = caplog.text + repr(refused)
    for secret in ("5215512345678", "secret words", TOKEN):
        assert secret not in said


# -- credentials -------------------------------------------------------------------------------------------------------


async def test_a_token_that_sees_its_number_is_fine(graph: Graph, sender: MetaSender) -> None:
    graph.says(200, {"display_phone_number": "+1 555 078 3881", "id": NUMBER})
    assert await sender.check(NUMBER) is None
    assert graph.asked[0][:3] == ("GET", f"/v24.0/{NUMBER}", f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (error(190, 401), "access token (190)"),
        (error(100, error_subcode=33), "phone number id"),
        (error(2, 503), "try again"),
        ((200, "<html>"), "not Meta"),
        ((200, []), "not Meta"),
    ],
)
async def test_credentials_that_do_not_work_say_what_to_do(
    graph: Graph, sender: MetaSender, answer: tuple[int, object], named: str
) -> None:
    graph.says(*answer)
    assert named in str(await sender.check(NUMBER))


async def test_an_api_that_does_not_answer_is_reported() -> None:
    async with sending_to("http://nowhere.invalid") as sender:
        assert "PALOMAR_META_API_URL" in str(await sender.check(NUMBER))


@pytest.mark.parametrize("token", ["EAAtoken\n", "EAA\u200btoken"])
async def test_a_token_that_was_copied_badly_is_refused_before_a_call(token: str) -> None:
    with pytest.raises(ValueError, match=r"access_token: .*line breaks") as caught:
        make_sender(json.dumps({"access_token": token}), api_url="http://127.0.0.1:1", timeout=1)
    assert token not in str(caught.value)


@pytest.mark.parametrize("credentials", ["{}", '{"access_token": ""}', "[]", "no JSON", '{"access_token": 5}'])
async def test_credentials_of_another_shape_are_refused_without_their_values(credentials: str) -> None:
    with pytest.raises(ValueError, match="Meta credentials") as refused:
        make_sender(credentials, api_url="https://graph.example/v24.0", timeout=1)
    assert "no JSON" not in str(refused.value)


async def test_what_another_system_keeps_beside_the_token_does_no_harm() -> None:
    given = json.dumps({"api_key": "a", "access_token": TOKEN, "webhook_token": "w"})
    await make_sender(given, api_url="https://graph.example/v24.0", timeout=1).close()


async def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="meta_api_url"):
        make_sender(json.dumps({"access_token": TOKEN}), api_url="graph.example", timeout=1)
