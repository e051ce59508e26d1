"""Writes /openapi.json: OpenAPI 3.1 of what REST serves, from the declarations and pydantic's JSON Schema. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ingress.api import problems
from ingress.api.declaration import AnyProcedure, Example
from ingress.api.problems import UNKNOWN_PATH, VERSION_MISMATCH, ProblemType
from ingress.api.reference.schemas import (
    Schema,
    Schemas,
    has_version,
    reachable,
    reference,
    schemas,
    without_null,
)
from ingress.api.rest_paths import Route, Routes

Json = dict[str, Any]

_ABOUT: Final = """Everything that a tenant or an operator does with Palomar. Send a key with each call, as \
`Authorization: Bearer plm_…`. What is refused is answered with a problem (RFC 9457)."""

_HEADERS: Final[Mapping[str, Json]] = {
    "RateLimit-Policy": {
        "description": "How many calls (q) the key may make in how many seconds (w).",
        "schema": {"type": "string", "examples": ['"default";q=600;w=60']},
    },
    "RateLimit": {
        "description": "How many calls are left (r), and the seconds after which there are more (t).",
        "schema": {"type": "string", "examples": ['"default";r=599;t=1']},
    },
    "ETag": {
        "description": "The version of the row, for If-Match and If-None-Match.",
        "schema": {"type": "string", "examples": ['"64e3a1b2c3d4e"']},
    },
    "Idempotent-Replayed": {
        "description": "This is the answer to an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}},
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
}
_OF_PROBLEMS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    412: ("ETag",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_VISIBLE: Final = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}
_REQUEST_HEADERS: Final[Mapping[str, str]] = {
    "Idempotency-Key": "Makes the call safe to repeat: the same key and input again have no second effect, and get the "
    "first answer.",
    "If-Match": "The ETag of the version that you have seen; a row that has changed since is left alone.",
    "If-None-Match": "An ETag: where it still is the version, the answer is 304 without a body.",
}
_PROBLEM: Final[Schema] = {
    "type": "object",
    "description": "A refusal, as RFC 9457 writes it.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "An anchor in the page at /docs."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong this time."},
        "instance": {"type": "string", "format": "uri-reference", "description": "The id under which it is logged."},
        "errors": {
            "type": "array",
            "description": "Each field that is not right.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail", "remedy"],
                "properties": {
                    "pointer": {"type": "string", "examples": ["#/phoneNumber"], "description": "A JSON pointer."},
                    "detail": {"type": "string"},
                    "remedy": {"type": "string", "description": "What to do."},
                },
            },
        },
    },
}


def document(procedures: Iterable[AnyProcedure]) -> Json:
    """The OpenAPI document of these procedures. It has no subscriptions: REST does not call them."""
    routes = Routes(procedures).every
    known = schemas(route.procedure for route in routes)
    definitions: dict[str, Schema] = {**known.definitions, "Problem": _PROBLEM}
    paths: dict[str, Json] = {}
    refusals: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known, definitions, refusals)
    used = reachable([paths, refusals], definitions)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Palomar", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": family} for family in dict.fromkeys(route.procedure.family for route in routes)],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": _security(routes)},
            "schemas": {name: definitions[name] for name in used},
            "parameters": {
                name: {"name": name, "in": "header", "description": text, "schema": _VISIBLE}
                for name, text in _REQUEST_HEADERS.items()
            },
            "headers": dict(_HEADERS),
            "responses": refusals,
        },
    }


def _security(routes: Iterable[Route]) -> Json:
    scopes = sorted({route.procedure.scope for route in routes})
    return {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "plm_…",
        "description": f"A key with the scope of the procedure, or `*`. Scopes: {', '.join(scopes)}.",
    }


def _operation(route: Route, known: Schemas, definitions: dict[str, Schema], refusals: dict[str, Json]) -> Json:
    procedure = route.procedure
    name = known.input(procedure)
    operation: Json = {
        "operationId": procedure.name,
        "tags": [procedure.family],
        "summary": procedure.summary,
        "security": [{"key": [procedure.scope]}],  # OpenAPI 3.1 allows roles here for every scheme
        "parameters": _parameters(route, definitions[name]),
        "responses": _answers(route, known.output(procedure)) | _refusals(route, refusals),
    }
    if procedure.description:
        operation["description"] = procedure.description
    if route.takes_file:
        content: Json = {content_type: {"schema": {}} for content_type in procedure.takes}  # of any size
        operation["requestBody"] = {"required": True, "content": content}
    elif route.has_body:
        operation["requestBody"] = _body(route, name, definitions)
    return operation


def _parameters(route: Route, taken: Schema) -> list[Json]:
    """The members of the input that stand in the path and the query, and the headers that the procedure reads."""
    required = taken.get("required", [])
    examples = route.procedure.examples
    found: list[Json] = []
    for name, field in taken.get("properties", {}).items():
        where = "path" if name == route.id_field else "query"
        if where == "query" and route.has_body:
            continue
        schema = without_null(field)
        parameter: Json = {"name": name, "in": where, "required": where == "path" or name in required}
        if "description" in schema:
            parameter["description"] = schema["description"]
        parameter["schema"] = {key: value for key, value in schema.items() if key != "description"}
        shown = next((one.given[name] for one in examples if name in one.given), None)
        if shown is not None:
            parameter["example"] = shown
        found.append(parameter)
    return found + [{"$ref": f"#/components/parameters/{header}"} for header in _request_headers(route)]


def _request_headers(route: Route) -> list[str]:
    headers = ["Idempotency-Key"] if route.procedure.kind in ("mutation", "upload") else []
    if VERSION_MISMATCH in route.procedure.errors:
        headers.append("If-Match")
    if _answers_304(route):
        headers.append("If-None-Match")
    return headers


def _answers_304(route: Route) -> bool:
    return route.method == "GET" and has_version(route.procedure.output)


def _body(route: Route, name: str, definitions: dict[str, Schema]) -> Json:
    """The input without what is in the path."""
    taken = definitions[name]
    if route.id_field is not None:
        name = f"{name}Body"
        definitions[name] = taken = {
            **taken,
            "title": name,
            "properties": {field: one for field, one in taken["properties"].items() if field != route.id_field},
            "required": [field for field in taken.get("required", []) if field != route.id_field],
        }
    content: Json = {"schema": reference(name)}
    given = [
        (one, {field: value for field, value in one.given.items() if field != route.id_field})
        for one in route.procedure.examples
    ]
    content["examples"] = _examples(given)
    return {"required": bool(taken.get("required")), "content": {"application/json": content}}


def _examples(values: Iterable[tuple[Example, Any]]) -> Json:
    return {
        f"example-{number}": {"value": value} | ({"summary": one.summary} if one.summary else {})
        for number, (one, value) in enumerate(values, 1)
    }


def _answers(route: Route, name: str) -> Json:
    procedure = route.procedure
    headers = {one: {"$ref": f"#/components/headers/{one}"} for one in ("RateLimit-Policy", "RateLimit")}
    if has_version(procedure.output):
        headers["ETag"] = {"$ref": "#/components/headers/ETag"}
    if procedure.kind == "mutation":
        headers["Idempotent-Replayed"] = {"$ref": "#/components/headers/Idempotent-Replayed"}
    shown = _examples((one, dict(one.answer)) for one in procedure.examples)
    answers: Json = {
        str(route.status): {
            "description": procedure.summary,
            "headers": headers,
            "content": {"application/json": {"schema": reference(name), "examples": shown}},
        }
    }
    if _answers_304(route):
        answers["304"] = {"description": "Nothing has changed.", "headers": headers}
    return answers


def _refusals(route: Route, components: dict[str, Json]) -> Json:
    """The problems of a procedure by status, each set of types once among the components."""
    by_status: dict[int, list[ProblemType]] = {}
    for one in problems_of(route):
        by_status.setdefault(one.status, []).append(one)
    found: Json = {}
    for status, types in sorted(by_status.items()):
        name = "-or-".join(one.name for one in types)
        components.setdefault(name, _refusal(status, types))
        found[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return found


def problems_of(route: Route) -> tuple[ProblemType, ...]:
    """What REST may answer a call of this procedure with: an id in the path may make it a path of nothing."""
    more = () if route.id_field is None or route.id_field not in route.path else (UNKNOWN_PATH,)
    every = {*route.procedure.problems, *more}
    return tuple(one for one in problems.TYPES if one in every)


def _refusal(status: int, types: list[ProblemType]) -> Json:
    shown = {
        one.name: {"value": {"type": one.uri, "title": one.title, "status": status, "detail": one.meaning}}
        for one in types
    }
    narrowed = {"properties": {"type": {"enum": [one.uri for one in types]}, "status": {"const": status}}}
    content = {"schema": {"allOf": [reference("Problem"), narrowed]}, "examples": shown}
    answer: Json = {
        "description": " ".join(f"{one.title}: {one.meaning}" for one in types),
        "content": {"application/problem+json": content},
    }
    if status in _OF_PROBLEMS:
        answer["headers"] = {one: {"$ref": f"#/components/headers/{one}"} for one in _OF_PROBLEMS[status]}
    return answer
