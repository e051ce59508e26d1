"""Reads JSON in which any part may be missing or differ from its documentation. No I/O; never raises."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import orjson

Fields = Mapping[str, object]

_WORD = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)
_LONGEST_NUMBER = 40  # characters of an id that came as a number
_MOST_ERRORS = 100  # sentences for one webhook, which may hold a million wrong items
_MILLISECONDS_FROM = 10**11  # Unix seconds reach it in the year 5138


def loaded(body: bytes) -> tuple[object, str]:
    """The JSON of a body, and a sentence about what is wrong with it, or an empty text. None where it is no JSON.

    A strict reader refuses the whole body where a name was cut within an emoji or something follows the object. A whole
    batch of messages must not be lost for that, so as much as possible is read.
    """
    try:
        return orjson.loads(body), ""
    except orjson.JSONDecodeError as error:
        strict = error.msg
    text = body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    reader = json.JSONDecoder(parse_float=_finite, parse_int=_storable, parse_constant=lambda _: None)
    try:
        value, end = reader.raw_decode(text)
        # Half of a surrogate pair can't be stored; it becomes `?`.
        value = orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None, f"no JSON ({strict})"
    return value, f"goes on behind its JSON, at character {end}" if text[end:].strip() else ""


def _finite(written: str) -> float | None:
    value = float(written)
    return value if math.isfinite(value) else None


def _storable(written: str) -> int | str:
    return int(written) if len(written) < 19 else written


def fields_of(holder: Fields, name: str) -> Fields:
    """The object of this name; an empty one where there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def text_of(holder: Fields, name: str) -> str:
    """The text of this name, or its number as text; empty for anything else."""
    value = holder.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)[:_LONGEST_NUMBER]
    return ""


def items_of(
    holder: Fields, name: str, prefix: str, errors: list[str], *, needed: bool = False
) -> Iterator[tuple[str, Fields]]:
    """(place, object) of each object in the list of this name. Each other item is a sentence in `errors`."""
    value = holder.get(name)
    if value is None:
        if needed:
            errors.append(f"{prefix}{name}: missing; a list is needed")
        return
    if value == {}:  # some systems write an empty list like this
        return
    if not isinstance(value, list):
        errors.append(f"{prefix}{name}: a list is needed")
        return
    for number, item in enumerate(value):
        if isinstance(item, dict):
            yield f"{prefix}{name}.{number}", item
        elif len(errors) < _MOST_ERRORS:
            errors.append(f"{prefix}{name}.{number}: an object is needed")


def instant(value: object) -> datetime | None:
    """Unix time in seconds or milliseconds, as a number or digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
        if seconds >= _MILLISECONDS_FROM:
            seconds /= 1000
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def own_id(value: object) -> UUID | None:
    """Our message's id, which we sent along; None for anything else."""
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def printable_word(text: str) -> str:
    """The text in lower case where it is one word of letters, digits and underscores; else empty."""
    word = text.strip().lower()
    return word if _WORD.fullmatch(word) else ""


def plain(fields: Fields) -> dict[str, object]:
    """The fields that are not empty. One nested deeper than orjson can write is replaced, since orjson reads deeper."""
    return {name: _writable(value) for name, value in fields.items() if value not in (None, "", [], {})}


def _writable(value: object) -> object:
    if not isinstance(value, dict | list):
        return value
    try:
        orjson.dumps([[value]])  # in what is stored, the value stands some levels deeper
    except orjson.JSONEncodeError:
        return "(nested too deep)"
    return value
