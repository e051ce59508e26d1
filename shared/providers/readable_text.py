"""Writes what customers send without text as text: a place, a filled-in form, an order. No I/O; never raises.

People and engines read it as the message's content. It consists of the customer's own data with as few words of ours as
possible, because the conversation's language is not known.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from shared.domain.model import Wording
from shared.providers.json_fields import Fields, fields_of, items_of, text_of

_MOST_LINES: Final = 50  # answers of a form, products of an order
_LONGEST_LINE: Final = 500  # characters
_LONGEST_FORM: Final = 64 * 1024  # characters of a form's JSON; longer ones are not read
_DEEPEST: Final = 3  # groups within a form's answers
_HIDDEN: Final = frozenset(("flow_token",))  # fields of a form that are not the customer's answers
# Meta's form builder names a field by its screen, its label and its number: `screen_0_First_name_2`.
_BUILT_NAME: Final = re.compile(r"screen_[0-9]+_(.+)_[0-9]+")


@dataclass(frozen=True, slots=True)
class Readable:
    """The text of a message, and whether it is in the customer's own words."""

    text: str
    wording: Wording


def first(every: Iterable[Readable]) -> Readable:
    """The first of these with a text; an empty one where none has."""
    return next((one for one in every if one.text), Readable("", "data"))


def place(name: str, address: str, latitude: object, longitude: object, url: str = "") -> str:
    """A location as lines: name, address, coordinates and link, as far as they are given."""
    coordinates = ", ".join(filter(None, (_number(latitude), _number(longitude))))
    return "\n".join(dict.fromkeys(filter(None, (name.strip(), address.strip(), coordinates, url.strip()))))


def form_json(written: str) -> str:
    """The answers of a form given as a JSON string, as `form` writes them; empty where the JSON can't be read."""
    try:
        loaded = orjson.loads(written) if len(written) <= _LONGEST_FORM else None
    except orjson.JSONDecodeError:
        return ""
    return form(loaded) if isinstance(loaded, dict) else ""


def form(answers: Fields) -> str:
    """`field: answer` for each answered field, each on its own line."""
    return "\n".join(islice(_answers(answers, _DEEPEST), _MOST_LINES))


def _answers(answers: Fields, deeper: int) -> Iterator[str]:
    for name, value in answers.items():
        if name in _HIDDEN:
            continue
        if isinstance(value, dict):
            if deeper:
                yield from _answers(value, deeper - 1)
            continue
        several = value if isinstance(value, list) else [value]
        answer = ", ".join(filter(None, map(_answer_text, several[:_MOST_LINES])))
        if answer:
            yield f"{_label(name)}: {answer}"[:_LONGEST_LINE]


def _answer_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.strip() if isinstance(value, str) else _number(value)


def _label(name: str) -> str:
    built = _BUILT_NAME.fullmatch(name)
    return (built[1] if built else name).replace("_", " ").strip()


def order(order: Fields) -> str:
    """The text of an order, then its products, each on its own line: `2 × SKU-1 (19.9 EUR)`."""
    products = (_product(product) for _, product in items_of(order, "product_items", "", []))
    lines = (text_of(order, "text").strip(), *islice(products, _MOST_LINES))
    return "\n".join(filter(None, lines))


def _product(product: Fields) -> str:
    name = text_of(product, "product_retailer_id")
    if not name:
        return ""
    quantity, price = _number(product.get("quantity")), _number(product.get("item_price"))
    money = " ".join(filter(None, (price, text_of(product, "currency")))) if price else ""
    return f"{f'{quantity} × ' if quantity else ''}{name}{f' ({money})' if money else ''}"[:_LONGEST_LINE]


def reply(answer: Fields) -> Readable:
    """The answer to an interactive message: a button's or row's title, a form's answers, else any text in it."""
    filled = form_json(text_of(answer, "response_json")) or form(fields_of(answer, "response_json"))
    return first(
        (
            Readable(text_of(answer, "title").strip(), "own"),
            Readable(filled, "data"),
            *(Readable(text_of(answer, name).strip(), "unclear") for name in ("body", "text", "id")),
            Readable(form(answer), "data"),
        )
    )


def _number(value: object) -> str:
    """A number as text, or the text in its place; empty for anything else."""
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else ""
    return text_of({"value": value}, "value").strip()
