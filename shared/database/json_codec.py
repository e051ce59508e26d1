"""Converts json and jsonb columns from and to Python values. No I/O."""

import json
from typing import Any, Final

import orjson

UNREADABLE: Final = "unreadable JSON"  # stands for a value that PostgreSQL stores and Python can't read


def decode_json(text: str) -> Any:
    """Read JSON as PostgreSQL stores it, which is more than Python reads.

    1e400 becomes infinity, and a value that is nested too deeply becomes `UNREADABLE`. Raises nothing: an error here
    would fail all rows of a result, those of every tenant.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text, parse_int=_read_integer)
        except (ValueError, RecursionError):
            return UNREADABLE


def _read_integer(digits: str) -> int | float:
    """As orjson reads an integer: one of more than 64 bits becomes a float."""
    return int(digits) if len(digits) < 19 else float(digits)


def encode_json(value: object) -> str:
    return orjson.dumps(value).decode()
