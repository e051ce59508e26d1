"""Reads a model's JSON Schema as a table of fields: name, type, bounds, meaning. No I/O."""

import json
from dataclasses import dataclass
from typing import Any, Final

from ingress.api.reference.schemas import ROOT, Schema

# The least and the most of what, as JSON Schema calls them.
_RANGES: Final = (
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " of them"),
    ("minProperties", "maxProperties", " members"),
    ("minimum", "maximum", ""),
)
_OTHERS: Final = {
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "pattern": "of the form {}",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A type: its words, and the model that they end with, if they do."""

    words: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A line of the table."""

    name: str
    kinds: list[Kind]  # any of these
    required: bool
    notes: list[str]
    description: str


def fields(schema: Schema) -> list[Field]:
    """The fields of an object; of anything else, such as an enumeration, one without a name."""
    if "properties" not in schema:
        return [] if schema.get("type") == "object" else [_field("", schema, required=True)]
    required = schema.get("required", [])
    return [_field(name, field, required=name in required) for name, field in schema["properties"].items()]


def _field(name: str, schema: Schema, *, required: bool) -> Field:
    kinds: list[Kind] = []
    notes: list[str] = []
    for one in schema.get("anyOf") or schema.get("oneOf") or [schema]:
        kinds.append(_kind(one))
        notes += _bounds(one)
    if schema.get("default") is not None:
        notes.append(f"default {json.dumps(schema['default'])}")
    return Field(name, kinds, required, notes, schema.get("description", ""))


def _kind(schema: Schema) -> Kind:
    if "$ref" in schema:
        return Kind("", schema["$ref"].removeprefix(ROOT))
    if "enum" in schema or "const" in schema:
        return Kind(" | ".join(json.dumps(one) for one in schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        item = _kind(schema.get("items", {}))
        return Kind(f"list of {item.words}", item.model)
    words: str = schema.get("type", "any value")
    return Kind(f"{words} ({schema['format']})" if "format" in schema else words)


def _bounds(schema: Schema) -> list[str]:
    found = [_range(schema.get(least), schema.get(most), what) for least, most, what in _RANGES]
    found += [text.format(_shown(schema[name])) for name, text in _OTHERS.items() if name in schema]
    return [one for one in found if one] + (_bounds(schema["items"]) if "items" in schema else [])


def _range(least: float | None, most: float | None, what: str) -> str:
    if least is None:
        return "" if most is None else f"at most {_shown(most)}{what}"
    return f"at least {_shown(least)}{what}" if most is None else f"{_shown(least)} to {_shown(most)}{what}"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
