"""Renders the reference page at /docs on the server, from the declarations. It needs no script and no other file."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from ingress.api import problems
from ingress.api.declaration import AnyProcedure, Example
from ingress.api.problems import ProblemType
from ingress.api.reference.fields import Field, fields
from ingress.api.reference.openapi import problems_of
from ingress.api.reference.schemas import Schemas, reachable, schemas
from ingress.api.reference.snippets import Snippet, snippets, subscribing
from ingress.api.rest_paths import Route, route

_TEMPLATES: Final = Path(__file__).with_name("templates")
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False})


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and the policy that its headers announce."""

    text: str
    policy: str  # Content-Security-Policy


@dataclass(frozen=True, slots=True)
class _Entry:
    """A procedure, as the page shows it."""

    procedure: AnyProcedure
    route: Route | None  # None: a subscription
    takes: list[Field]
    answers: list[Field]
    problems: tuple[ProblemType, ...]
    snippets: list[Snippet]
    answer: str  # an example, as JSON

    @property
    def reads_version(self) -> bool:
        """Whether it reads If-Match."""
        return problems.VERSION_MISMATCH in self.problems


def page(procedures: Iterable[AnyProcedure]) -> Page:
    """The reference of these procedures."""
    every = sorted(procedures, key=lambda one: one.name)
    known = schemas(every)
    entries = [_entry(one, known) for one in every]
    style = (_TEMPLATES / "reference.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["inline"] = _inline
    environment.filters["paragraphs"] = _paragraphs
    text = environment.get_template("reference.html.j2").render(
        style=Markup(style),
        families={family: list(group) for family, group in groupby(entries, lambda one: one.procedure.family)},
        models=_models(every, known),
        problem_types=problems.TYPES,
    )
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(text, policy)


def _entry(procedure: AnyProcedure, known: Schemas) -> _Entry:
    found = route(procedure)
    example = procedure.examples[0] if procedure.examples else Example({}, {})
    return _Entry(
        procedure,
        found,
        fields(known.definitions[known.input(procedure)]),
        fields(known.definitions[known.output(procedure)]),
        procedure.problems if found is None else problems_of(found),
        subscribing(procedure, example.given) if found is None else snippets(found, example.given),
        orjson.dumps(example.answer, option=orjson.OPT_INDENT_2).decode() if example.answer else "",
    )


def _models(procedures: Iterable[AnyProcedure], known: Schemas) -> Mapping[str, tuple[str, list[Field]]]:
    """The objects that inputs and answers are made of, by name: each with its meaning and fields."""
    whole = [known.definitions[name(one)] for one in procedures for name in (known.input, known.output)]
    parts = {name: known.definitions[name] for name in reachable(whole, known.definitions)}
    return {name: (schema.get("description", ""), fields(schema)) for name, schema in parts.items()}


def _inline(text: str) -> Markup:
    """A line of Markdown as HTML."""
    return Markup(_MARKDOWN.renderInline(text))


def _paragraphs(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))
