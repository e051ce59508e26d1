"""The reference, as a machine reads it (OpenAPI) and as a person does (the page), made from the declarations."""

import ast
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from openapi_spec_validator import validate
from typer.testing import CliRunner

from ingress.api import problems
from ingress.api.declaration import Example, registry
from ingress.api.models import Output, Part
from ingress.api.reference.fields import fields
from ingress.api.reference.openapi import document
from ingress.api.reference.page import page
from ingress.api.reference.schemas import without_null
from ingress.api.reference.snippets import snippets
from ingress.api.rest_paths import Routes
from ops.cli import _root

ROUTES = Routes(registry().values()).every
HOSTILE = 'it\'s "quoted", $HOME `id` \\ </script> é'


class Anchors(HTMLParser):
    """Collects ids, links and the names of elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if (own := given.get("id")) is not None:
            self.ids.append(own)
        if (target := given.get("href")) is not None:
            self.links.append(target)


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return document(registry().values())


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    return Anchors(page(registry().values()).text)


def test_it_is_valid_openapi(openapi: dict[str, Any]) -> None:
    validate(openapi)
    assert orjson.loads(orjson.dumps(openapi)) == openapi


def test_each_procedure_is_an_operation_with_its_scope_and_problems(openapi: dict[str, Any]) -> None:
    for route in ROUTES:
        operation = openapi["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.procedure.name
        assert operation["security"] == [{"key": [route.procedure.scope]}]
        statuses = {str(one.status) for one in route.procedure.problems} | {str(route.status)}
        assert statuses <= set(operation["responses"])
        assert ("requestBody" in operation) == (route.has_body or route.takes_file)


def test_what_is_in_the_path_is_not_in_the_body(openapi: dict[str, Any]) -> None:
    update = openapi["paths"]["/v1/contacts/{id}"]["patch"]
    name = update["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "id" not in openapi["components"]["schemas"][name]["properties"]
    assert [one["name"] for one in update["parameters"] if "name" in one] == ["id"]


def test_a_query_string_has_no_null(openapi: dict[str, Any]) -> None:
    (active,) = [one for one in openapi["paths"]["/v1/contacts"]["get"]["parameters"] if one.get("name") == "isActive"]
    assert active["schema"] == {"type": "boolean"}
    assert without_null({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 3, "description": "d"}) == {
        "type": "integer", "default": 3, "description": "d",
    }  # fmt: skip


def test_every_problems_type_leads_to_an_anchor_of_the_page(anchors: Anchors) -> None:
    assert problems.TYPES
    for one in problems.TYPES:
        path, _, anchor = one.uri.partition("#")
        assert path == "/docs"
        assert anchor in anchors.ids


def test_every_procedure_has_its_place_and_no_link_leads_nowhere(anchors: Anchors) -> None:
    assert set(registry()) <= set(anchors.ids)
    assert len(anchors.ids) == len(set(anchors.ids))
    for target in anchors.links:
        assert target == "/openapi.json" or target.removeprefix("#") in anchors.ids, target


def test_the_page_needs_no_script_and_no_other_file(anchors: Anchors) -> None:
    assert not anchors.tags & {"script", "link", "img", "iframe", "form"}
    policy = page(registry().values()).policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


class Bare(Part):
    number: int


class Holding(Output):
    parts: list[Bare]


def test_an_object_without_a_docstring_is_shown_by_its_fields() -> None:
    text = page([replace(registry()["contacts.get"], output=Holding)]).text
    assert 'id="model-Bare"' in text


def test_what_a_docstring_holds_is_text() -> None:
    shown = Example({"name": "<script>alert(1)</script>"}, {"name": "</code><img src=x>"})
    hostile = replace(registry()["contacts.create"], summary="A <b>bold</b> claim", examples=(shown,))
    assert not Anchors(page([hostile]).text).tags & {"script", "img", "b"}


@pytest.mark.parametrize(
    ("schema", "words", "notes"),
    [
        ({"type": "string", "minLength": 1, "maxLength": 200}, ["string"], ["1 to 200 characters"]),
        ({"type": "integer", "minimum": 1, "default": 50}, ["integer"], ["at least 1", "default 50"]),
        ({"anyOf": [{"format": "uuid", "type": "string"}, {"type": "null"}]}, ["string (uuid)", "null"], []),
        ({"enum": ["held", "sent"]}, ['"held" | "sent"'], []),
        ({"type": "array", "maxItems": 2000, "items": {"maxLength": 9, "type": "string"}}, ["list of string"],
         ["at most 2,000 of them", "at most 9 characters"]),
    ],
)  # fmt: skip
def test_a_field_is_shown_with_its_bounds(schema: dict[str, Any], words: list[str], notes: list[str]) -> None:
    (field,) = fields({"properties": {"one": schema}, "required": ["one"]})
    assert ([kind.words for kind in field.kinds], field.notes, field.required) == (words, notes, True)


def test_each_snippet_is_of_its_language() -> None:
    for route in ROUTES:
        for one in snippets(route, {**route.procedure.examples[0].given, "name": HOSTILE}):
            match one.language:
                case "curl":
                    subprocess.run(["bash", "-n"], input=one.text.encode(), check=True)
                case "Python":
                    ast.parse(one.text)
                case "TypeScript":
                    assert one.text.count("{") == one.text.count("}")


def test_a_subscription_is_shown_for_clients_of_trpc() -> None:
    declared = replace(registry()["contacts.list"], kind="subscription")
    text = page([declared]).text
    assert "trpc.contacts.list.subscribe({" in text
    assert "curl" not in text
    assert document([declared])["paths"] == {}


def test_the_page_says_what_reads_if_match() -> None:
    for name, reads in (("contacts.update", True), ("contacts.get", False)):
        assert ("reads <code>If-Match" in page([registry()[name]]).text) == reads


def test_the_command_writes_the_same_document(openapi: dict[str, Any], tmp_path: Path) -> None:
    run = CliRunner()
    printed = run.invoke(_root("openapi"), ["openapi"])
    assert orjson.loads(printed.output) == openapi
    file = tmp_path / "openapi.json"
    assert run.invoke(_root("openapi"), ["openapi", str(file)]).exit_code == 0
    assert orjson.loads(file.read_bytes()) == openapi


def test_the_documents_words_are_ours(openapi: dict[str, Any]) -> None:
    for name in openapi["components"]["schemas"]:
        assert re.fullmatch(r"[A-Za-z0-9]+", name), f"two models are called {name}"
