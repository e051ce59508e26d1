"""Writes JSON Schema, as pydantic makes it, as TypeScript's types. No I/O."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any] | bool
_PLAIN: Final = {
    "string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null",
}  # fmt: skip
_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_INDENT: Final = "  "


def declaration(name: str, schema: Mapping[str, Any]) -> str:
    """The declaration of a named schema: an interface for an object with members, else an alias."""
    described = comment(schema.get("description", ""))
    if schema.get("type") == "object" and schema.get("properties"):
        return f"{described}export interface {identifier(name)} {_members(schema, '')}\n"
    return f"{described}export type {identifier(name)} = {type_of(schema)};\n"


def type_of(schema: Schema, indent: str = "") -> str:
    """The type of a schema. What has no counterpart in TypeScript, such as a length, is left out."""
    if isinstance(schema, bool):
        return "unknown" if schema else "never"
    if "$ref" in schema:
        return identifier(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return _union(json.dumps(one) for one in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return _union(type_of(one, indent) for one in schema[several])
    if "allOf" in schema:
        return " & ".join(dict.fromkeys(_grouped(type_of(one, indent)) for one in schema["allOf"]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union(type_of({**schema, "type": one}, indent) for one in kind)
    if kind == "array":
        return _array(schema, indent)
    if kind == "object":
        return _object(schema, indent)
    return _PLAIN.get(kind or "", "unknown")


def identifier(name: str) -> str:
    """A name as TypeScript allows it for a type: `Page[Contact]` → `Page_Contact`, `Contact-Input` → `ContactInput`."""
    return re.sub(r"\W+", "_", name.replace("-", "")).strip("_")


def comment(text: str, indent: str = "") -> str:
    """A documentation comment with its line's end; empty where there is nothing to say."""
    if not text:
        return ""
    lines = text.replace("*/", "*\N{ZERO WIDTH SPACE}/").strip().splitlines()
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    starred = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{starred}{indent} */\n"


def member(name: str) -> str:
    """The name of a member, in quotes where it is no identifier."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _union(types: Iterator[str]) -> str:
    """Each type once; `unknown` takes all others in."""
    every = list(dict.fromkeys(types))
    return "unknown" if "unknown" in every else " | ".join(every)


def _grouped(type_: str) -> str:
    """In parentheses where another operator could divide it."""
    return f"({type_})" if " | " in type_ or " & " in type_ else type_


def _array(schema: Mapping[str, Any], indent: str) -> str:
    if "prefixItems" in schema:
        items = [type_of(one, indent) for one in schema["prefixItems"]]
        rest = schema.get("items", False)
        if rest is not False:
            items.append(f"...{_grouped(type_of(rest, indent))}[]")
        return f"[{', '.join(items)}]"
    return f"{_grouped(type_of(schema.get('items', True), indent))}[]"


def _object(schema: Mapping[str, Any], indent: str) -> str:
    others = schema.get("additionalProperties", True)
    if schema.get("properties"):
        members = _members(schema, indent)
        return members if others in (False, True) else f"{members} & Record<string, unknown>"
    if others is False:
        return "Record<string, never>"
    return f"Record<string, {type_of(others, indent)}>"


def _members(schema: Mapping[str, Any], indent: str) -> str:
    inner = indent + _INDENT
    required = set(schema.get("required", ()))
    lines = [
        f"{comment(one.get('description', ''), inner)}{inner}{member(name)}{'' if name in required else '?'}: "
        f"{type_of(one, inner)};\n"
        for name, one in schema["properties"].items()
    ]
    return f"{{\n{''.join(lines)}{indent}}}"
