"""Reads and writes the sandbox's JSON. A body that does not fit is answered 400, naming each wrong field."""

import math
from collections.abc import Mapping
from typing import TypeVar

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def json_answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(data), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def bad_request(*problems: tuple[str, str]) -> web.HTTPBadRequest:
    """The control API's 400, to be raised; `problems` are pairs of field and what is wrong with it."""
    return web.HTTPBadRequest(
        text=orjson.dumps({"errors": [{"field": field, "problem": problem} for field, problem in problems]}).decode(),
        content_type="application/json",
    )


async def read_json(request: web.Request, shape: TypeAdapter[T]) -> T:
    """The request's body as `shape`. Raises web.HTTPBadRequest naming every field that does not fit."""
    try:
        return shape.validate_json(await request.read())
    except ValidationError as error:
        raise bad_request(*problems(error)) from None


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """What is wrong, field by field: `0.action`, `match.to`; the body itself is `body`."""
    found = []
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        if item["type"].startswith("union_tag"):
            path.append(str(item.get("ctx", {}).get("discriminator", "")).strip("'"))
        found.append((".".join(path) or "body", item["msg"]))
    return found


def number(request: web.Request, name: str, default: float, most: float = math.inf) -> float:
    """A number from the query, between 0 and `most`. Raises web.HTTPBadRequest."""
    given = request.query.get(name)
    if given is None:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise bad_request((name, f"a number from 0 to {most:g}"))
    return value
