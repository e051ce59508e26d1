"""What holds of every procedure, tried on each that is declared: one that is written tomorrow is covered tomorrow."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from ingress.api.declaration import AnyProcedure, models, registry, scopes
from tests.support.api import Answer, ApiStage, route_of
from tests.support.api_inputs import caller, family_of, id_fields, properties, row, valid

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY = [one for one in registry().values() if one.kind in ("query", "mutation")]
MUTATIONS = [one for one in EVERY if one.kind == "mutation"]
TENANTS = [one for one in EVERY if not one.operator]
LONG = "x" * 900_000
LONG_IN_QUERY = "x" * 50_000  # a longer one is no line that the server reads: test_api_faults.py
DEEP = 10_000
HOSTILE: list[Any] = [12345, -1, 1.5, True, "\0", "\ud7ff", [], [None], {}, {"a": [{}]}, ["\0"], 2**70, "1e400"]


def named(procedures: list[AnyProcedure]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("procedure", procedures, ids=[one.name for one in procedures])


def assert_problem(answer: Answer, procedure: AnyProcedure, name: str | None = None) -> None:
    """That it is a problem which the procedure declares, of this name."""
    assert 400 <= answer.status < 500, answer.body
    assert {"type", "title", "status", "detail"} <= set(answer.body), answer.body
    assert answer.body["status"] == answer.status
    assert answer.problem in {one.name for one in procedure.problems}
    assert name in (None, answer.problem), answer.body


@named(EVERY)
async def test_a_key_without_the_scope_is_forbidden(one_api: ApiStage, procedure: AnyProcedure) -> None:
    others = [one for one in scopes(operator=procedure.operator) if one != procedure.scope]
    whose = await caller(one_api, procedure, *others)
    assert_problem(await one_api.call(procedure, whose, procedure.examples[0].given), procedure, "forbidden")


@named([one for one in EVERY if one.operator])
async def test_no_tenants_key_does_what_spans_tenants(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await one_api.tenant("*", procedure.scope)
    assert_problem(await one_api.call(procedure, whose, procedure.examples[0].given), procedure, "forbidden")


@named(EVERY)
async def test_without_a_key_nothing_is_done(one_api: ApiStage, procedure: AnyProcedure) -> None:
    answer = await one_api.call(procedure, None, procedure.examples[0].given)
    assert_problem(answer, procedure, "unauthenticated")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@named(EVERY)
async def test_it_answers_as_declared(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await caller(one_api, procedure)
    answer = await one_api.call(procedure, whose, await valid(one_api, whose, procedure))
    assert answer.status == route_of(procedure).status, answer.body
    procedure.output.model_validate(answer.body, strict=False)
    assert answer.headers["RateLimit"]


@named(TENANTS)
async def test_another_tenants_rows_are_not_there(one_api: ApiStage, procedure: AnyProcedure) -> None:
    mine, theirs = await one_api.tenant(), await one_api.tenant()
    for field in id_fields(procedure):
        given = await valid(one_api, mine, procedure)
        if field in given:
            other = await row(one_api, theirs, family_of(procedure, field))
            given[field] = [other] if isinstance(given[field], list) else other
            assert_problem(await one_api.call(procedure, mine, given), procedure, "not-found")
    given = await valid(one_api, mine, procedure) | {"tenantId": str(theirs.id)}
    assert_problem(await one_api.call(procedure, mine, given), procedure, "not-found")


@named([one for one in TENANTS if id_fields(one)])
async def test_an_id_that_no_one_has_is_not_there(one_api: ApiStage, procedure: AnyProcedure) -> None:
    mine = await one_api.tenant()
    for field in id_fields(procedure):
        given = await valid(one_api, mine, procedure)
        if field in given:
            given[field] = [str(uuid4())] if isinstance(given[field], list) else str(uuid4())
            assert_problem(await one_api.call(procedure, mine, given), procedure, "not-found")


@named(MUTATIONS)
async def test_a_repeated_request_has_one_effect(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await caller(one_api, procedure)
    given = await valid(one_api, whose, procedure)
    before = await events(one_api)
    first = await one_api.call(procedure, whose, given, Idempotency_Key="order 1")
    assert "Idempotent-Replayed" not in first.headers
    assert first.status < 300, first.body
    after = await events(one_api)
    assert after > before or procedure.name in CHANGE_NO_ROW, "what changes a row records an event"
    again = await one_api.call(procedure, whose, given, Idempotency_Key="order 1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.body == first.body | dict.fromkeys(procedure.shown_once)
    assert again.status == first.status
    assert await events(one_api) == after
    other = registry()["tenants.create" if procedure.operator else "apiKeys.create"]
    otherwise = (given if procedure is other else {}) | ({"name": "Another"} if procedure.operator else KEY)
    refused = await one_api.call(other, whose, otherwise, Idempotency_Key="order 1")
    assert_problem(refused, procedure, "idempotency-mismatch")


@named(MUTATIONS)
async def test_requests_that_come_at_once_have_one_effect(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await caller(one_api, procedure)
    given = await valid(one_api, whose, procedure)
    twins = [one_api.call(procedure, whose, given, Idempotency_Key="order 2") for _ in range(4)]
    answers = await asyncio.gather(*twins)
    assert [one.status for one in answers] == [route_of(procedure).status] * 4
    assert sorted(one.headers.get("Idempotent-Replayed", "") for one in answers) == ["", "true", "true", "true"]
    shown = [{name: one.body[name] for name in one.body if name not in procedure.shown_once} for one in answers]
    assert shown == [shown[0]] * 4


@named(MUTATIONS)
async def test_what_failed_leaves_its_idempotency_key_free(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await caller(one_api, procedure)
    given = await valid(one_api, whose, procedure)
    wrong = given | {"thisFieldIsUnknown": 1}
    assert_problem(await one_api.call(procedure, whose, wrong, Idempotency_Key="k"), procedure, "invalid-input")
    answer = await one_api.call(procedure, whose, given, Idempotency_Key="k")
    assert answer.status < 300, answer.body
    assert "Idempotent-Replayed" not in answer.headers


@named(EVERY)
async def test_hostile_values_get_a_problem(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await caller(one_api, procedure)
    good = procedure.examples[0].given
    unknown = await one_api.call(procedure, whose, dict(good) | {"thisFieldIsUnknown": 1})
    assert_problem(unknown, procedure, "invalid-input")
    assert unknown.pointers == ["#/thisFieldIsUnknown"]
    in_path = route_of(procedure).id_field
    long = LONG if route_of(procedure).has_body else LONG_IN_QUERY
    for field in properties(procedure):
        if field == in_path:
            continue
        for value in (*HOSTILE, long):
            answer = await one_api.call(procedure, whose, dict(good) | {field: value})
            if answer.status >= 300:
                assert_problem(answer, procedure)
                assert answer.problem in ("invalid-input", "parse-error", "not-found", "conflict", "forbidden"), field
            else:
                assert value != "\0"
                assert value != long


@named([one for one in EVERY if route_of(one).has_body])
async def test_hostile_bodies_get_a_problem(one_api: ApiStage, procedure: AnyProcedure) -> None:
    whose = await caller(one_api, procedure)
    at = route_of(procedure)
    path = at.path.replace(f"{{{at.id_field}}}", str(uuid4()))
    deep = b'{"a":' * DEEP + b"1" + b"}" * DEEP
    for body, problem in (
        (b"{", "parse-error"),
        (b"\xff\xfe", "parse-error"),
        (b'{"a": NaN}', "parse-error"),
        (b'{"a": "\\ud800"}', "parse-error"),
        (deep, "parse-error"),
        (b"[" * DEEP + b"]" * DEEP, "parse-error"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "invalid-input"),
        (b"[]", "invalid-input"),
        (b'"text"', "invalid-input"),
        (b'{"thisFieldIsUnknown": 1e400}', None),
        (b"x" * (one_api.settings.api_body_limit + 1), "too-large"),
    ):
        answer = await one_api.request(at.method, path, whose, data=body)
        assert_problem(answer, procedure, problem)
    plain = await one_api.request(at.method, path, whose, data=b"{}", Content_Type="text/plain")
    assert_problem(plain, procedure, "unsupported-media-type")


@named(EVERY)
async def test_its_examples_fit_its_models(procedure: AnyProcedure) -> None:
    assert procedure.examples
    for example in procedure.examples:
        procedure.input.model_validate(dict(example.given), strict=False)
        procedure.output.model_validate(dict(example.answer), strict=False)


@named(EVERY)
async def test_every_text_that_it_takes_is_bounded(procedure: AnyProcedure) -> None:
    schema = procedure.input.model_json_schema(by_alias=True)
    assert [where for where, part in parts(schema, "") if is_unbounded(part)] == []


async def test_no_input_looks_like_one_that_a_transformer_wrapped() -> None:
    assert [one.name for one in registry().values() if "json" in properties(one)] == []


async def test_no_two_models_have_one_name() -> None:
    names = [model.__name__ for model in models()]
    assert len(names) == len(set(names))


# What they change are queues of the broker; or a row that a worker's event follows, `webhook_triggered`.
CHANGE_NO_ROW = ("system.replayDeadLetters", "system.discardDeadLetters", "webhooks.test")
KEY = {"name": "Another", "scopes": ["contacts:read"]}


async def events(api: ApiStage) -> int:
    counted: int = await api.pool.fetchval("SELECT count(*) FROM events")
    return counted


def parts(schema: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, with its place."""
    if isinstance(schema, list):
        return [found for n, one in enumerate(schema) for found in parts(one, f"{where}/{n}")]
    if not isinstance(schema, dict):
        return []
    inner = {name: one for name, one in schema.items() if name not in ("examples", "default")}
    return [(where, schema), *(found for name, one in inner.items() for found in parts(one, f"{where}/{name}"))]


def is_unbounded(part: dict[str, Any]) -> bool:
    match part.get("type"):
        case "string":
            return not {"maxLength", "format", "enum", "const", "pattern"} & set(part)
        case "array":
            return "maxItems" not in part
        case "object":
            return part.get("additionalProperties", False) is not False and "maxProperties" not in part
        case "integer" | "number":
            return not ({"maximum", "exclusiveMaximum"} & set(part) and {"minimum", "exclusiveMinimum"} & set(part))
    return False
