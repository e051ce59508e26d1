"""JSON Schema as TypeScript, as a table, and router.d.ts of models of every kind."""

from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import Field, JsonValue, TypeAdapter

from ingress.api.models import Output
from ingress.api.trpc.typescript import comment, declaration, identifier, member, type_of


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "string", "format": "uuid", "maxLength": 3}, "string"),
        ({"type": "integer", "minimum": 1}, "number"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "null"}, "null"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": "a"}, '"a"'),
        ({"const": None}, "null"),
        ({"enum": ["a", 'b"c', 1, None]}, '"a" | "b\\"c" | 1 | null'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        ({"anyOf": [{"type": "string"}, {"type": "string", "format": "uuid"}]}, "string"),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B-Input"}]}, "A | BInput"),
        ({"allOf": [{"$ref": "#/$defs/A"}]}, "A"),
        ({"allOf": [{"$ref": "#/$defs/A"}, {"enum": [1, 2]}]}, "A & (1 | 2)"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array", "items": {"enum": [1, 2]}}, "(1 | 2)[]"),
        ({"type": "array", "items": {"type": "array", "items": {}}}, "unknown[][]"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}]}, "[string, null]"),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"enum": [1, 2]}}, "[string, ...(1 | 2)[]]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "Record<string, number>"),
        ({"type": "object", "additionalProperties": True}, "Record<string, unknown>"),
        ({"type": "object"}, "Record<string, unknown>"),
        ({"type": "object", "additionalProperties": False}, "Record<string, never>"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b-c": {}}, "required": ["a"]},
            '{\n  a: string;\n  "b-c"?: unknown;\n}',
        ),
        ({}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        ({"not": {"type": "string"}}, "unknown"),
    ],
)
def test_types(schema: Any, type_: str) -> None:
    assert type_of(schema) == type_


@pytest.mark.parametrize(
    ("python", "type_"),
    [
        (Literal["a", "b"], '"a" | "b"'),
        (Colour, '"red" | "blue"'),
        (list[str | None], "(string | null)[]"),
        (dict[str, list[int]], "Record<string, number[]>"),
        (tuple[int, str], "[number, string]"),
        (tuple[int, ...], "number[]"),
        (bytes, "string"),
        (Any, "unknown"),
    ],
)
def test_types_of_pydantic(python: Any, type_: str) -> None:
    assert type_of(TypeAdapter(python).json_schema()) == type_


class Node(Output):
    """A node of a tree."""

    first_child: "Node | None" = Field(description="Below.\nThe first */ one.")
    anything: JsonValue


def test_a_model_is_an_interface() -> None:
    schema = Node.model_json_schema(by_alias=True, mode="serialization")["$defs"]["Node"]
    assert declaration("Node", schema) == (
        "/** A node of a tree. */\n"
        "export interface Node {\n"
        "  /**\n"
        "   * Below.\n"
        "   * The first *\u200b/ one.\n"
        "   */\n"
        "  firstChild: Node | null;\n"
        "  anything: JsonValue;\n"
        "}\n"
    )


def test_what_is_no_object_is_an_alias() -> None:
    assert declaration("Colour", {"enum": ["red", "blue"]}) == 'export type Colour = "red" | "blue";\n'
    assert declaration("Empty", {"type": "object", "additionalProperties": False}) == (
        "export type Empty = Record<string, never>;\n"
    )


def test_names() -> None:
    assert identifier("Page[Contact]") == "Page_Contact"
    assert identifier("Contact-Input") == "ContactInput"
    assert (member("create"), member("delete"), member("a b"), member("1")) == ("create", "delete", '"a b"', '"1"')
    assert comment("") == ""
