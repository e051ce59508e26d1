"""Reads a query string as a procedure's input, whose model says which values are numbers and lists. No I/O."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel

from ingress.api.problems import INVALID_INPUT, Problem

MOST_PARAMETERS: Final = 100

_TRUTH: Final = {"true": True, "false": False}
_READ: Final[Mapping[str, tuple[type, ...]]] = {"integer": (int, float), "number": (int, float), "object": (dict,)}


def pairs(query: str) -> list[tuple[str, str]]:
    """The names and values of a query string. Raises a Problem where they can't be read, or are too many."""
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise Problem(INVALID_INPUT, "The query string is no UTF-8.") from None
    except ValueError:
        raise Problem(INVALID_INPUT, f"Give at most {MOST_PARAMETERS} parameters.") from None


def read(model: type[BaseModel], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The input that these names and values stand for. What does not fit stays text, and the model refuses it.

    A list is given by its name once for each of its values. Of anything else the last value counts.
    """
    types = _types(model)
    given: dict[str, Any] = {}
    for name, value in pairs:
        kind = types.get(name, "string")
        if kind.startswith("array"):
            given.setdefault(name, []).append(_value(kind.removeprefix("array of "), value))
        else:
            given[name] = _value(kind, value)
    return given


def _value(kind: str, value: str) -> Any:
    if kind == "boolean":
        return _TRUTH.get(value, value)
    if kind not in _READ:
        return value
    try:
        read = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return read if type(read) in _READ[kind] else value


@cache
def _types(model: type[BaseModel]) -> Mapping[str, str]:
    """Of each field, its type in JSON Schema, as `array of …` where it is a list."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    return {name: _type(field, definitions) for name, field in schema.get("properties", {}).items()}


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return _type(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:  # mostly: or null
        kinds = [_type(one, definitions) for one in field["anyOf"]]
        return next((kind for kind in kinds if kind != "null"), "string")
    kind: str = field.get("type", "string")
    return f"array of {_type(field.get('items', {}), definitions)}" if kind == "array" else kind
