"""The llm engine against servers that answer strangely: what is sent, what is not, and what is never read."""

import asyncio
import gzip
import json
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops.sandbox.openai import MODEL
from shared.bot.base import Answer, Turn
from shared.domain.channels import LIMIT
from tests.support.llm_stage import HELLO, SAYS_FALLBACK, Body, Reply, answering, ask, llm_engine, reply_settings
from tests.support.ports import free_port


def _completion(message: object, finish_reason: str = "stop") -> dict[str, object]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
    }


def _said(content: object, finish_reason: str = "stop") -> dict[str, object]:
    return _completion({"role": "assistant", "content": content}, finish_reason)


CALL = {"id": "c1", "type": "function", "function": {"name": "refund", "arguments": "{}"}}
USELESS: dict[str, Body] = {
    "empty": _said(""),
    "null": _said(None),
    "blanks": _said(" \n\t"),
    "nothing visible": _said("\u200b\u0000"),
    "parts": _said([{"type": "text", "text": "hi"}]),
    "number": _said(7),
    "tool call": _completion({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool_calls"),
    "tool call with text": _completion({"role": "assistant", "content": "Refunding.", "tool_calls": [CALL]}),
    "old function call": _completion({"content": "Ok.", "function_call": CALL["function"]}, "function_call"),
    "refusal": _completion({"role": "assistant", "content": None, "refusal": "No."}),
    "filtered": _said("You may", "content_filter"),
    "only thoughts": _said("<think>The customer wants", "length"),
    "only thoughts in a channel": _said("<|channel|>analysis<|message|>The customer wants<|end|>"),
    "only a rule": _said("***\n\n---"),
    "no message": {"choices": [{"index": 0, "finish_reason": "stop"}]},
    "null message": _completion(None),
    "no choice": {"choices": []},
    "null choices": {"choices": None},
    "error as 200": {"error": {"message": "model not loaded"}},
    "array": b"[1, 2]",
    "string": b'"hi"',
    "not json": b"<html>hi</html>",
    "nothing": b"",
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("body", USELESS.values(), ids=USELESS)
async def test_an_answer_that_cannot_be_sent_is_the_fallback(body: Body) -> None:
    async with answering(body) as odd:
        assert await ask(odd.url) == SAYS_FALLBACK
        assert len(odd.asked) == 1


@pytest.mark.parametrize(
    ("content", "finish_reason", "sent"),
    [
        ("Hi\x00 \x1b[31mred\r\nthere\u0085", "stop", "Hi [31mred\nthere"),
        ("emoji cut in half \ud83d", "stop", "emoji cut in half"),
        ("word " * 2000, "stop", ("word " * 319).rstrip() + "…"),
        ("x" * 3000, "stop", "x" * (LIMIT - 1) + "…"),
        ("We open at nine and clo", "length", "We open at nine and…"),
        ("<think>Hm.\nHours?</think>\n\nAt nine.", "stop", "At nine."),
        ("Hours, probably.</think>At nine.", "stop", "At nine."),
        ("<thinking>Hours?</thinking>**At nine.**", "stop", "*At nine.*"),
    ],
)
async def test_an_answer_is_sent_as_plain_text_that_fits(content: str, finish_reason: str, sent: str) -> None:
    async with answering(_said(content, finish_reason)) as odd:
        assert await ask(odd.url) == Answer(sent, "model")


async def test_no_tools_are_offered_and_the_old_name_of_the_token_limit_is_used() -> None:
    async with answering(_said("Hi.")) as odd:
        await ask(odd.url, max_tokens=77)
    (asked,) = odd.asked
    assert set(asked) == {"model", "messages", "max_tokens"}
    assert asked["max_tokens"] == 77


async def test_a_model_that_refuses_the_old_name_is_asked_by_the_new_one_from_then_on() -> None:
    refusal = {"error": {"message": "no", "param": "max_tokens", "code": "unsupported_parameter"}}
    async with answering(Reply(refusal, status=400), _said("Hi.")) as odd, llm_engine(odd.url) as engine:
        assert await engine.answer(reply_settings(max_tokens=77), HELLO, 1, "whatsapp") == Answer("Hi.", "model")
        assert await engine.answer(reply_settings(max_tokens=77), HELLO, 1, "whatsapp") == Answer("Hi.", "model")
    limits = [{name: value for name, value in asked.items() if name.startswith("max")} for asked in odd.asked]
    assert limits == [{"max_tokens": 77}, {"max_completion_tokens": 77}, {"max_completion_tokens": 77}]


async def test_a_message_of_any_length_is_put_to_the_model_in_part_only() -> None:
    async with answering(_said("Hi.")) as odd:
        await ask(odd.url, history=[Turn("user", "x" * 1_000_000)], system_prompt="")
    assert odd.asked[0]["messages"] == [{"role": "user", "content": "x" * 4096}]


async def test_the_environment_neither_diverts_questions_nor_lends_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, nobody)
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-the-environment")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with answering(_said("Hi.")) as odd:
        for key in ("our-key", ""):
            async with llm_engine(odd.url, key) as engine:
                assert await engine.answer(reply_settings(), HELLO, 1, "whatsapp") == Answer("Hi.", "model")
    assert [headers["Authorization"] for headers in odd.headers] == ["Bearer our-key", "Bearer none"]
    assert "of-the-environment" not in str(odd.headers)


async def test_a_redirect_is_not_followed() -> None:
    async with answering(_said("Hi.")) as elsewhere:
        moved = Reply(b"", status=307, headers={"Location": f"{elsewhere.url}/chat/completions"})
        async with answering(moved) as odd:
            assert await ask(odd.url) == SAYS_FALLBACK
        assert len(odd.asked) == 1
    assert elsewhere.asked == []


@pytest.mark.parametrize("status", [200, 503])
async def test_an_endless_answer_is_not_read_to_its_end(status: int) -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        await request.read()
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while sent < 64 * 1024**2:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", pour)
    async with TestServer(app) as server:
        assert await ask(str(server.make_url("/v1"))) == SAYS_FALLBACK
    assert sent < 16 * 1024**2


async def test_an_answer_that_trickles_is_given_up_in_time() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", trickle)
    async with TestServer(app) as server:
        began = time.monotonic()
        assert await ask(str(server.make_url("/v1")), timeout=0.5) == SAYS_FALLBACK
        assert time.monotonic() - began < 15


async def test_an_answer_that_unpacks_to_more_than_it_weighs_is_not_unpacked() -> None:
    bomb = gzip.compress(json.dumps(_said("x" * 50_000_000)).encode())
    async with answering(Reply(bomb, headers={"Content-Encoding": "gzip"})) as odd:
        assert await ask(odd.url) == SAYS_FALLBACK
    assert odd.headers[0]["Accept-Encoding"] == "identity"
