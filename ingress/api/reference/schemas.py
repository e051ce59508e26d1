"""The JSON Schemas of all inputs and outputs, as pydantic makes them, in one set of definitions. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from ingress.api.declaration import AnyProcedure
from ingress.api.models import Output, Part

Schema = dict[str, Any]
ROOT: Final = "#/components/schemas/"
_NULL: Final = {"type": "null"}


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles of fields, which repeat the fields' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Schemas:
    """All schemas: each model's name, and what a name stands for."""

    definitions: Mapping[str, Schema]
    _names: Mapping[tuple[type, JsonSchemaMode], str]

    def input(self, procedure: AnyProcedure) -> str:
        """The name of what a procedure takes."""
        return self._names[procedure.input, "validation"]

    def output(self, procedure: AnyProcedure) -> str:
        """The name of what a procedure answers."""
        return self._names[procedure.output, "serialization"]


def schemas(procedures: Iterable[AnyProcedure]) -> Schemas:
    """The schemas of these procedures' models, with references as OpenAPI writes them."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for one in procedures:
        models += [(one.input, "validation"), (one.output, "serialization")]
    found, whole = models_json_schema(
        list(dict.fromkeys(models)), ref_template=f"{ROOT}{{model}}", schema_generator=_Untitled
    )
    names = {(model, mode): str(schema["$ref"]).removeprefix(ROOT) for (model, mode), schema in found.items()}
    return Schemas(whole.get("$defs", {}), names)


def reference(name: str) -> Schema:
    return {"$ref": f"{ROOT}{name}"}


def references(schema: Any) -> Iterator[str]:
    """The names that a schema, or anything that holds schemas, refers to."""
    if isinstance(schema, dict):
        target = schema.get("$ref")
        if isinstance(target, str) and target.startswith(ROOT):
            yield target.removeprefix(ROOT)
        for name, part in schema.items():
            if name not in ("example", "examples", "default", "value"):  # users' data, which may look like anything
                yield from references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from references(part)


def reachable(start: Any, definitions: Mapping[str, Schema]) -> list[str]:
    """The names that something refers to, directly or through others, sorted."""
    found: set[str] = set()
    waiting = list(references(start))
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += references(definitions[name])
    return sorted(found)


def without_null(schema: Schema) -> Schema:
    """A field's schema where null can't be written, as in a query string."""
    if _NULL not in schema.get("anyOf", []):
        return schema
    rest = {name: part for name, part in schema.items() if name not in ("anyOf", "default")}
    kinds = [one for one in schema["anyOf"] if one != _NULL]
    if schema.get("default") is not None:
        rest["default"] = schema["default"]
    return {**kinds[0], **rest} if len(kinds) == 1 else {"anyOf": kinds, **rest}


def has_version(output: type[Output]) -> bool:
    """Whether an answer holds one row that tells when it was changed last, and so comes with an ETag."""
    kinds = [field.annotation for field in output.model_fields.values()]
    if any(str(kind).startswith("list[") for kind in kinds):
        return False
    rows = [kind for whole in kinds for kind in (get_args(whole) or (whole,)) if _is_part(kind)]
    return len(rows) == 1 and "updated_at" in rows[0].model_fields


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Part)
