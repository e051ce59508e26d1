"""The JSON in which tRPC's clients read a result or an error. No I/O."""

from typing import Any, Final

import orjson

from ingress.api.problems import INVALID_INPUT, FieldError, Problem

_WRAPPED: Final = FieldError(
    "#",
    "A transformer of the client, such as superjson, has wrapped the input. This API takes plain JSON.",
    "Leave out the client's option `transformer`, and give times as text: 2026-11-28T16:00:00Z.",
)


class WrappedInput(Problem):
    """An input that comes as superjson writes it. Its client reads answers by the same rule."""

    def __init__(self) -> None:
        super().__init__(INVALID_INPUT, f"{_WRAPPED.detail} {_WRAPPED.remedy}", errors=[_WRAPPED])


def plain(given: Any) -> Any:
    """An input as it came. Raises WrappedInput: no procedure takes a member `json`."""
    if isinstance(given, dict) and "json" in given and given.keys() <= {"json", "meta"}:
        raise WrappedInput
    return given


def error_shape(problem: Problem, path: str | None = None) -> dict[str, Any]:
    """A problem as an error, with the whole problem in `data.problem`. `path` is the procedure's name."""
    data: dict[str, Any] = {"code": problem.type.code, "httpStatus": problem.type.status}
    if path is not None:
        data["path"] = path
    if (seconds := problem.headers.get("Retry-After")) is not None:
        data["retryAfter"] = int(seconds)
    shape = {
        "message": problem.detail,
        "code": problem.type.number,
        "data": {**data, "problem": problem.document()},
    }
    return {**shape, "json": shape} if isinstance(problem, WrappedInput) else shape


def failed(problem: Problem, path: str | None = None) -> bytes:
    """The whole answer to a call that was refused."""
    return orjson.dumps({"error": error_shape(problem, path)})


def succeeded(answer: bytes) -> bytes:
    """The whole answer to a call that led to this JSON."""
    return b'{"result":{"data":' + answer + b"}}"
