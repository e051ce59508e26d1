"""The API's rules without I/O: paths from names, query strings, token buckets, versions, problems."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from ingress.api import problems, query_string
from ingress.api.call import version
from ingress.api.declaration import registry
from ingress.api.failures import problem_of
from ingress.api.models import Input, ListInput
from ingress.api.problems import CODES, TYPES, Problem, of_validation, pointer
from ingress.api.rate_limits import MOST_BUCKETS, Bucket, Buckets
from ingress.api.rest_paths import Routes, kebab, route
from shared.database import LockTimeout, StatementTimeout

# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("contacts.list", ("GET", "/v1/contacts", 200)),
        ("contacts.get", ("GET", "/v1/contacts/{id}", 200)),
        ("contacts.create", ("POST", "/v1/contacts", 201)),
        ("contacts.update", ("PATCH", "/v1/contacts/{id}", 200)),
        ("contacts.delete", ("DELETE", "/v1/contacts/{id}", 200)),
        ("contacts.restore", ("POST", "/v1/contacts/{id}/restore", 200)),
        ("apiKeys.revoke", ("POST", "/v1/api-keys/{id}/revoke", 200)),
    ],
)
def test_a_path_follows_from_the_name(name: str, expected: tuple[str, str, int]) -> None:
    found = route(registry()[name])
    assert found is not None
    assert (found.method, found.path, found.status) == expected


@pytest.mark.parametrize(("given", "expected"), [("addContacts", "add-contacts"), ("get", "get"), ("a2B", "a2-b")])
def test_names_in_paths_are_in_kebab_case(given: str, expected: str) -> None:
    assert kebab(given) == expected


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/contacts", ("list", None)),
        ("/v1/contacts/7", ("get", "7")),
        ("/v1/contacts/7/restore", ("restore", "7")),
        ("/v1/contacts/", None),
        ("/v1/contacts//restore", None),
        ("/v1/contacts/{}", ("get", "{}")),
        ("/v1/contacts/7/restore/8", None),
        ("/v1", None),
        ("", None),
    ],
)
def test_a_path_is_found_with_its_id(path: str, found: tuple[str, str | None] | None) -> None:
    at = Routes(registry().values()).find(path)
    if at is None:
        assert found is None
    else:
        first = at.by_method.get("GET") or next(iter(at.by_method.values()))
        assert (first.procedure.verb, at.id) == found


# -- query strings -----------------------------------------------------------------------------------------------------


class Asked(ListInput):
    is_active: bool | None = None
    tags: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    where: dict[str, int] | None = None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("limit", "5")], {"limit": 5}),
        ([("limit", "five")], {"limit": "five"}),
        ([("limit", "true")], {"limit": "true"}),
        ([("limit", "")], {"limit": ""}),
        ([("isActive", "true")], {"isActive": True}),
        ([("isActive", "yes")], {"isActive": "yes"}),
        ([("cursor", "12")], {"cursor": "12"}),
        ([("tags", "a"), ("tags", "1")], {"tags": ["a", "1"]}),
        ([("sizes", "1"), ("sizes", "x")], {"sizes": [1, "x"]}),
        ([("where", '{"a":1}')], {"where": {"a": 1}}),
        ([("where", "[1]")], {"where": "[1]"}),
        ([("unknown", "1")], {"unknown": "1"}),
        ([("limit", "1"), ("limit", "2")], {"limit": 2}),
    ],
)
def test_a_query_string_is_typed_by_the_model(pairs: list[tuple[str, str]], expected: dict[str, Any]) -> None:
    read = query_string.read(Asked, pairs)
    assert read == expected
    assert [type(value) for value in read.values()] == [type(value) for value in expected.values()]


# -- token buckets -----------------------------------------------------------------------------------------------------


def test_a_bucket_holds_its_quota_and_fills_evenly() -> None:
    bucket = Bucket.full(4, 2.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, True, False]
    assert bucket.wait(100.0) == pytest.approx(0.5)
    assert not bucket.take(100.4)
    assert bucket.take(100.5)
    assert bucket.wait(1000.0) == 0.0
    assert [bucket.take(1000.0) for _ in range(5)] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("taken", "header"), [(0, '"default";r=4;t=0'), (1, '"default";r=3;t=1'), (4, '"default";r=0;t=1')]
)
def test_the_header_says_what_is_left_and_until_when(taken: int, header: str) -> None:
    bucket = Bucket.full(4, 4.0, now=0.0)
    for _ in range(taken):
        bucket.take(0.0)
    assert bucket.headers(0.0) == {"RateLimit-Policy": '"default";q=4;w=4', "RateLimit": header}


def test_strangers_buckets_are_bounded() -> None:
    buckets = Buckets(1, 60.0)
    first = buckets.of("first", 0.0)
    first.take(0.0)
    for n in range(MOST_BUCKETS - 1):
        buckets.of(n, 0.0)
    assert buckets.of("first", 0.0) is first, "it was used, so it stays"
    buckets.of("one more", 0.0)
    buckets.of("another", 0.0)
    assert buckets.of("first", 0.0) is first


# -- versions and problems ---------------------------------------------------------------------------------------------


def test_a_version_tells_microseconds_apart() -> None:
    moment = datetime(2026, 11, 28, 16, 0, 0, 1, tzinfo=UTC)
    assert version(moment) == version(moment)
    assert version(moment) != version(moment.replace(microsecond=2))
    assert version(moment).startswith('"')


@pytest.mark.parametrize(
    ("path", "expected"),
    [((), "#"), (("a", 0, "b"), "#/a/0/b"), (("a/b", "c~d"), "#/a~1b/c~0d"), (("x" * 500,), "#/" + "x" * 198)],
)
def test_pointers_are_escaped_and_bounded(path: tuple[str | int, ...], expected: str) -> None:
    assert pointer(*path) == expected


def test_every_type_of_problem_has_an_anchor_and_a_code_of_trpc() -> None:
    assert len({one.uri for one in TYPES}) == len(TYPES) >= 15
    for one in TYPES:
        assert one.uri.startswith("/docs#problem-")
        assert one.code in CODES
        assert one.meaning.endswith(".")


def test_a_problem_is_written_as_the_rfc_says() -> None:
    problem = problems.invalid("phoneNumber", "It is wrong.", "Correct it.")
    assert problem.document() == {
        "type": "/docs#problem-invalid-input",
        "title": "The input is not right",
        "status": 400,
        "detail": "phoneNumber: It is wrong.",
        "errors": [{"pointer": "#/phoneNumber", "detail": "It is wrong.", "remedy": "Correct it."}],
    }


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2")])
def test_retry_after_is_whole_seconds_and_never_too_early(seconds: float, header: str) -> None:
    assert Problem(problems.UNAVAILABLE, "", retry_after=seconds).headers == {"Retry-After": header}


@pytest.mark.parametrize(
    ("error", "name", "says"),
    [
        (ConnectionResetError(), "contacts.create", "repeat it with the same Idempotency-Key"),
        (ConnectionResetError(), "contacts.list", "Nothing was changed"),
        (StatementTimeout(), "contacts.create", "Nothing was changed"),
        (LockTimeout(), "contacts.create", "Nothing was changed"),
    ],
)
def test_an_outage_says_whether_a_change_may_have_been_made(error: Exception, name: str, says: str) -> None:
    problem = problem_of(error, registry()[name])
    assert problem.type is problems.UNAVAILABLE
    assert says in problem.detail


def test_a_thousand_wrong_fields_are_a_short_problem() -> None:
    with pytest.raises(ValidationError) as found:
        Input.model_validate({f"x{n}": 1 for n in range(1000)})
    problem = of_validation(found.value)
    assert len(problem.errors) == problems.MOST_ERRORS
    assert "999 more" in problem.detail
