"""Reading JSON of which any part may be missing, or something else than documented. Pure; never raises."""

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
_MOST_ERRORS = 100  # told of one webhook; a million items that are no objects would be a million sentences
_MILLISECONDS_FROM = 10**11  # Unix seconds reach it in the year 5138


def loaded(body: bytes) -> tuple[object, str]:
    """The JSON of a body, and what is wrong with it, empty where nothing is; (None, …) where there is no JSON at all.

    Where a strict reader takes nothing, because a name was cut within an emoji or something follows the object, what
    can be read is read: a whole batch must not be lost for it.
    """
    try:
        return orjson.loads(body), ""
    except orjson.JSONDecodeError as error:
        strict = error.msg
    text = body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    reader = json.JSONDecoder(parse_float=_finite, parse_int=_storable, parse_constant=lambda _: None)
    try:
        value, end = reader.raw_decode(text)
        # Half a surrogate pair can't be stored; it becomes `?`.
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
    """The text of this name, or the number as text; empty where it is anything else."""
    value = holder.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)[:_LONGEST_NUMBER]
    return ""


def items_of(
    holder: Fields, name: str, prefix: str, errors: list[str], *, needed: bool = False
) -> Iterator[tuple[str, Fields]]:
    """(place, object) of each object in the list of this name. What is none is told in `errors` with its place."""
    value = holder.get(name)
    if value is None:
        if needed:
            errors.append(f"{prefix}{name}: missing; a list is needed")
        return
    if value == {}:  # how some systems write a list that is empty
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
    """Our message id, as it travelled with what we sent."""
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def printable_word(text: str) -> str:
    """The lower-case word of letters, digits and underscores that a text is; empty for any other text."""
    word = text.strip().lower()
    return word if _WORD.fullmatch(word) else ""


def plain(fields: Fields) -> dict[str, object]:
    """The fields that hold something, each of a depth that can be written as JSON again: orjson reads deeper."""
    return {name: _writable(value) for name, value in fields.items() if value not in (None, "", [], {})}


def _writable(value: object) -> object:
    if not isinstance(value, dict | list):
        return value
    try:
        orjson.dumps([[value]])  # what is written stands some levels deeper
    except orjson.JSONEncodeError:
        return "(nested too deep)"
    return value
