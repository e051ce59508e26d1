"""Reads the fields of Twilio's webhooks: of a form, of a JSON object, or of a GET's query."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

import orjson
from yarl import URL

from shared.providers.base import RawWebhook

# Twilio sends some 40 fields; ten media items make 60. A body with more than this is not Twilio's.
_MOST_FIELDS = 500
_ORDINARY_FORM = 8192  # characters


def is_get(raw: RawWebhook) -> bool:
    return raw.method.upper() in ("GET", "HEAD")


def is_json(raw: RawWebhook) -> bool:
    media_type = raw.content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def query(url: str) -> str:
    """The query of a URL. Bytes that were not UTF-8 arrive as lone surrogates, and become `?`."""
    return url.partition("#")[0].partition("?")[2].encode("utf-8", "replace").decode()


def form(text: str) -> list[tuple[str, str]] | None:
    """Names and values of a form in order, blank values included; None where it has too many to be Twilio's.

    yarl reads a form five times faster than parse_qsl, with the same result, but caches the last 128 it read, so it
    reads only forms of an ordinary size.
    """
    if text.count("&") >= _MOST_FIELDS:
        return None
    if len(text) <= _ORDINARY_FORM:
        return list(URL.build(query_string=text, encoded=True).query.items())
    return parse_qsl(text, keep_blank_values=True, errors="replace")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a webhook, by name."""

    first: dict[str, str]  # of a repeated name the first value
    whole: dict[str, object]  # of a repeated name all of them, in a list


def read_fields(raw: RawWebhook) -> Fields | str:
    """The fields of the form, the JSON object or a GET's query; or a sentence that says why they can't be read."""
    if is_json(raw) and not is_get(raw):
        try:
            loaded = orjson.loads(raw.body)
        except orjson.JSONDecodeError as error:
            return f"body: not the JSON its Content-Type says ({error.msg}); Twilio posts a form or an object"
        if not isinstance(loaded, dict):
            return 'body: a JSON object of Twilio\'s fields is needed, such as {"MessageSid": …}'
        values = {name: _as_text(value) for name, value in loaded.items()}
        return Fields(values, {**values})
    pairs = form(query(raw.url) if is_get(raw) else raw.body.decode("utf-8", "replace"))
    if pairs is None:
        return f"body: {_MOST_FIELDS} fields or more; Twilio sends fewer than a hundred"
    first = dict(pairs)
    if len(first) == len(pairs):  # as nearly always
        return Fields(first, {**first})
    first = {}
    repeated: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in first:
            repeated.setdefault(name, [first[name]]).append(value)
        else:
            first[name] = value
    return Fields(first, {**first, **repeated})


def _as_text(value: object) -> str:
    """A JSON value as a form would hold it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # read at a depth orjson does not write
        return "(nested too deep)"
