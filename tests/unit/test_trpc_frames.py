"""What tRPC's clients write and read, as tables: paths and batches, streamed lines, frames of a WebSocket, keys."""

from typing import Any

import orjson
import pytest

from ingress.api.problems import UNAVAILABLE, Problem
from ingress.api.trpc import frames, requests
from ingress.api.trpc.calls import key_of_call
from ingress.api.trpc.frames import Message
from ingress.api.trpc.requests import MOST_CALLS, Form
from ingress.api.trpc.shapes import WrappedInput, error_shape, failed, succeeded
from ingress.api.trpc.streams import Lines
from ingress.api.trpc.subscriptions import key_in


@pytest.mark.parametrize(
    ("path", "query", "headers", "paths", "form"),
    [
        ("/trpc/contacts.list", "", {}, ("contacts.list",), "json"),
        ("/trpc/contacts.list", "", {"trpc-accept": "application/jsonl"}, ("contacts.list",), "json"),
        ("/trpc/a.b,c.d", "batch=1", {}, ("a.b", "c.d"), "json"),
        ("/trpc/a.b%2Cc.d", "batch=1", {"trpc-accept": "application/jsonl"}, ("a.b", "c.d"), "jsonl"),
        ("/trpc/a.b%2cc.d", "batch=1", {"accept": "application/jsonl"}, ("a.b", "c.d"), "jsonl"),
        ("/trpc/a.b", "batch=true", {"trpc-batch-mode": "stream"}, ("a.b",), "stream10"),
        ("/trpc/a.b,c.d", "", {}, ("a.b,c.d",), "json"),
        ("/trpc/a.b,", "batch=1", {}, ("a.b", ""), "json"),
    ],
)
def test_the_calls_of_a_request(path: str, query: str, headers: dict[str, str], paths: Any, form: Form) -> None:
    calls = requests.read(path, query, headers)
    assert (calls.paths, calls.form, calls.is_batch) == (paths, form, "batch" in query)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/trpc", ""), ("/trpc/", ""), ("/trpc/a%", ""), ("/trpc/a%zz", ""), ("/trpc/%FF", ""),
        ("/trpc/a", "input=%FF"), ("/trpc/a", "a&" * 200), ("/trpc/" + "a," * MOST_CALLS, "batch=1"),
    ],
)  # fmt: skip
def test_what_is_no_request(path: str, query: str) -> None:
    with pytest.raises(Problem):
        requests.read(path, query, {})


def test_inputs() -> None:
    one = requests.read("/trpc/a", "input=%5B1%5D", {})
    assert (one.in_query(), one.inputs([1]), one.inputs(None)) == ([1], [[1]], [None])
    two = requests.read("/trpc/a,b", "batch=1", {})
    assert (two.in_query(), two.inputs(None)) == (None, [None, None])
    assert two.inputs({"1": {"x": 1}, "7": 2}) == [None, {"x": 1}]
    refused: list[Any] = [[], "a", 1, True]
    for wrong in refused:
        with pytest.raises(Problem):
            two.inputs(wrong)


@pytest.mark.parametrize("wrapped", [{"json": {"id": "x"}}, {"json": None, "meta": {"values": ["undefined"]}}])
def test_an_input_that_superjson_wrapped_is_refused_in_both_forms(wrapped: Any) -> None:
    one, two = requests.read("/trpc/a", "", {}), requests.read("/trpc/a,b", "batch=1", {})
    message = {"id": 1, "method": "query", "params": {"path": "a", "input": wrapped}}
    for read in (lambda: one.inputs(wrapped), lambda: two.inputs({"1": wrapped}), lambda: frames.message(message)):
        with pytest.raises(WrappedInput) as refused:
            read()
    shape = error_shape(refused.value, "a")
    assert "transformer" in shape["message"]
    assert shape["json"] == {name: value for name, value in shape.items() if name != "json"}
    assert one.inputs({"json": 1, "id": "x"}) == [{"json": 1, "id": "x"}]


def test_lines_of_a_stream() -> None:
    lines = Lines("jsonl", 2)
    assert lines.head() == b'{"0":[[0],[null,0,0]],"1":[[0],[null,0,1]]}\n'
    assert lines.one(1, succeeded(b'"\xc3\xb1"')) == b'[1,0,[[{"result":{"data":"\xc3\xb1"}}]]]\n'
    assert lines.tail() == b""
    lines = Lines("stream10", 2)
    written = lines.head() + lines.one(1, succeeded(b'"\xc3\xb1"')) + lines.one(0, b"{}") + lines.tail()
    assert written == b'{"1":{"result":{"data":"\\u00f1"}}\n,"0":{}\n}'
    assert orjson.loads(written)["1"]["result"]["data"] == "ñ"


def test_an_error() -> None:
    problem = Problem(UNAVAILABLE, "Not now.", retry_after=1.5)
    shape = error_shape(problem, "a.b")
    assert shape == {
        "message": "Not now.",
        "code": -32603,
        "data": {
            "code": "SERVICE_UNAVAILABLE", "httpStatus": 503, "path": "a.b", "retryAfter": 2,
            "problem": problem.document(),
        },
    }  # fmt: skip
    assert orjson.loads(failed(problem, "a.b")) == {"error": shape}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ({"id": 1, "method": "query", "params": {"path": "a.b"}}, Message(1, "query", "a.b")),
        (
            {"id": "x", "method": "subscription", "params": {"path": "a", "input": {}, "lastEventId": "7"}},
            Message("x", "subscription", "a", {}, "7"),
        ),
        ({"id": 1, "method": "subscription.stop"}, Message(1, "subscription.stop")),
        ({"id": None, "method": "query", "params": {"path": "a"}}, None),
        ({"id": True, "method": "query", "params": {"path": "a"}}, None),
        ({"id": 1, "method": "constructor", "params": {"path": "a"}}, None),
        ({"id": 1, "method": {}, "params": {"path": "a"}}, None),
        ({"id": 1, "method": "query", "params": {"path": 1}}, None),
        ({"id": 1, "method": "query"}, None),
        ([], None),
        ("a", None),
    ],
)
def test_messages(read: Any, message: Message | None) -> None:
    if message is None:
        with pytest.raises(Problem):
            frames.message(read)
    else:
        assert frames.message(read) == message


def test_answers_in_frames() -> None:
    assert orjson.loads(frames.answered(1, succeeded(b"[]"))) == {"id": 1, "result": {"type": "data", "data": []}}
    assert orjson.loads(frames.answered(1, b'{"error":{}}')) == {"id": 1, "error": {}}
    assert frames.messages("[{},{}]") == [{}, {}]
    assert frames.messages("{}") == [{}]
    with pytest.raises(Problem):
        frames.messages("[" + "{}," * MOST_CALLS + "{}]")


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        (None, None), ({}, None), ({"token": "k"}, "k"), ({"Authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer k "}, "k"), ({"authorization": "Basic k"}, None),
    ],
)  # fmt: skip
def test_the_key_in_connection_parameters(parameters: Any, key: str | None) -> None:
    assert key_in(parameters) == key


@pytest.mark.parametrize("wrong", [[], "k", {"token": 1}, {"token": None}])
def test_connection_parameters_are_strings(wrong: Any) -> None:
    with pytest.raises(Problem):
        key_in(wrong)


def test_the_idempotency_key_of_a_call() -> None:
    assert key_of_call(None, "a.b", 0, is_batch=True) is None
    assert key_of_call("k", "a.b", 0, is_batch=False) == "k"
    assert key_of_call("k", "a.b", 1, is_batch=True) == "k 1 a.b"
    with pytest.raises(Problem):
        key_of_call("", "a.b", 0, is_batch=True)
