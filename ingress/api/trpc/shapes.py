"""The JSON in which tRPC's clients read a result or an error. No I/O."""

from typing import Any

import orjson

from ingress.api.problems import Problem


def error_shape(problem: Problem, path: str | None = None) -> dict[str, Any]:
    """A problem as an error, with the whole problem in `data.problem`. `path` is the procedure's name."""
    data: dict[str, Any] = {"code": problem.type.code, "httpStatus": problem.type.status}
    if path is not None:
        data["path"] = path
    if (seconds := problem.headers.get("Retry-After")) is not None:
        data["retryAfter"] = int(seconds)
    return {
        "message": problem.detail,
        "code": problem.type.number,
        "data": {**data, "problem": problem.document()},
    }


def failed(problem: Problem, path: str | None = None) -> bytes:
    """The whole answer to a call that was refused."""
    return orjson.dumps({"error": error_shape(problem, path)})


def succeeded(answer: bytes) -> bytes:
    """The whole answer to a call that led to this JSON."""
    return b'{"result":{"data":' + answer + b"}}"
