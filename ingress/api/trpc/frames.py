"""The frames that tRPC's wsLink sends and reads. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from ingress.api.front import parsed
from ingress.api.models import Output
from ingress.api.problems import INVALID_INPUT, Problem
from ingress.api.trpc.requests import MOST_CALLS
from ingress.api.trpc.shapes import error_shape, plain
from ingress.api.trpc.subscriptions import event_id

PING: Final = "PING"
PONG: Final = "PONG"
RECONNECT: Final = '{"id":null,"method":"reconnect"}'
Id = int | str | None
Method = Literal["query", "mutation", "subscription", "subscription.stop"]
_METHODS: Final = ("query", "mutation", "subscription", "subscription.stop")


@dataclass(frozen=True, slots=True)
class Message:
    """What a client wants. `path`, `given` and `last_event_id` are of all but `subscription.stop`."""

    id: Id
    method: Method
    path: str = ""
    given: Any = None
    last_event_id: str | None = None


def messages(frame: str) -> list[Any]:
    """The messages of a frame, which is one of them or an array. Raises a Problem."""
    read = parsed(frame)
    several: list[Any] = read if isinstance(read, list) else [read]
    if len(several) > MOST_CALLS:
        raise Problem(INVALID_INPUT, f"A frame has at most {MOST_CALLS} messages.")
    return several


def id_of(read: Any) -> Id:
    """The id of a message, by which its client knows the answer; None where it has none."""
    found = read.get("id") if isinstance(read, dict) else None
    return found if type(found) in (int, str) else None


def message(read: Any) -> Message:
    """One message. Raises the problem of what is none."""
    if not isinstance(read, dict) or id_of(read) is None:
        raise Problem(INVALID_INPUT, "A message is an object with an `id`, which is a number or a text.")
    method = read.get("method")
    if method not in _METHODS:
        raise Problem(INVALID_INPUT, f"The `method` of a message is one of: {', '.join(_METHODS)}.")
    if method == "subscription.stop":
        return Message(id_of(read), method)
    params = read.get("params")
    path = params.get("path") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(path, str):
        raise Problem(INVALID_INPUT, "The `params` of a message are an object with a `path`: {…}.")
    seen = params.get("lastEventId")
    return Message(id_of(read), method, path, plain(params.get("input")), seen if isinstance(seen, str) else None)


def parameters(frame: str) -> Any:
    """What the first frame of a socket with connectionParams holds. Raises a Problem."""
    read = parsed(frame)
    if not isinstance(read, Mapping) or read.get("method") != "connectionParams":
        raise Problem(INVALID_INPUT, 'The first frame is: {"method": "connectionParams", "data": {…}}.')
    return read.get("data")


def answered(id_: Id, body: bytes) -> str:
    """The answer to a query or mutation, from the answer that HTTP would give."""
    whole = orjson.loads(body)
    if "result" in whole:
        whole["result"] = {"type": "data", **whole["result"]}
    return _text({"id": id_, **whole})


def refused(id_: Id, problem: Problem, path: str | None = None) -> str:
    """An error, of a message or of the socket itself."""
    return _text({"id": id_, "error": error_shape(problem, path)})


def item(id_: Id, one: Output) -> str:
    """An item of a subscription."""
    result: dict[str, Any] = {"type": "data", "data": one.model_dump(mode="json", by_alias=True)}
    if (found := event_id(one)) is not None:
        result["id"] = found
    return _text({"id": id_, "result": result})


def state(id_: Id, type_: Literal["started", "stopped"]) -> str:
    """That a subscription has begun or ended."""
    return _text({"id": id_, "result": {"type": type_}})


def _text(whole: Mapping[str, Any]) -> str:
    return orjson.dumps(whole).decode()
