"""Where REST finds each procedure, by convention from its name. No I/O.

| procedure | method and path |
|---|---|
| `contacts.list`, `contacts.get` | GET `/v1/contacts`, `/v1/contacts/{id}` |
| `contacts.create` | POST `/v1/contacts` |
| `contacts.update`, `contacts.delete` | PATCH, DELETE `/v1/contacts/{id}` |
| another query | GET `/v1/contacts/{id}/VERB`, or `/v1/contacts/VERB` where it takes no id |
| another mutation, an upload | POST of the same |

The id is the input's field `id`, or the one that names the family: `groupId` of `groups.addContacts`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ingress.api.declaration import AnyProcedure

ROOT: Final = "/v1"
_PLAIN: Final = {"list": "GET", "create": "POST"}
_OF_ONE: Final = {"get": "GET", "update": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Route:
    """The method and path of a procedure. `id_field` is the member of the input that is in the path."""

    method: str
    path: str  # `/v1/contacts/{id}`
    procedure: AnyProcedure
    id_field: str | None

    @property
    def has_body(self) -> bool:
        """Whether its input comes in a body; else it comes in the query string."""
        return self.method in ("POST", "PATCH") and not self.takes_file

    @property
    def takes_file(self) -> bool:
        """Whether its body is a file."""
        return self.procedure.kind == "upload"

    @property
    def status(self) -> int:
        """Of a success."""
        return 201 if self.procedure.verb == "create" else 200


def route(procedure: AnyProcedure) -> Route | None:
    """Where REST finds this procedure; None for a subscription, which REST does not call."""
    if procedure.kind == "subscription":
        return None
    family, verb = f"{ROOT}/{kebab(procedure.family)}", procedure.verb
    id_field = _id_field(procedure)
    one = family if id_field is None else f"{family}/{{{id_field}}}"
    if verb in _PLAIN:
        return Route(_PLAIN[verb], family, procedure, None)
    if verb in _OF_ONE:
        return Route(_OF_ONE[verb], one, procedure, id_field)
    method = "GET" if procedure.kind == "query" else "POST"
    return Route(method, f"{one}/{kebab(verb)}", procedure, id_field)


def _id_field(procedure: AnyProcedure) -> str | None:
    aliases = {field.alias or name for name, field in procedure.input.model_fields.items()}
    own = f"{procedure.family.removesuffix('s')}Id"
    return next((name for name in ("id", own) if name in aliases), None)


def kebab(name: str) -> str:
    """`addContacts` → `add-contacts`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "-" + found[1], name).lower()


@dataclass(frozen=True, slots=True)
class Found:
    """The routes of a path by method, with the id that stands in it."""

    by_method: Mapping[str, Route]
    id: str | None


class Routes:
    """All routes, to look up."""

    def __init__(self, procedures: Iterable[AnyProcedure]) -> None:
        self.every: Final = tuple(found for one in procedures if (found := route(one)) is not None)
        self._by_shape: dict[str, dict[str, Route]] = {}
        for one in self.every:
            by_method = self._by_shape.setdefault(re.sub(r"\{\w+\}", "{}", one.path), {})
            assert one.method not in by_method, f"{one.method} {one.path} is of two procedures"
            by_method[one.method] = one

    def find(self, path: str) -> Found | None:
        """The routes of this path; None where nothing is there. A verb comes before an id of the same text."""
        plain = self._by_shape.get(path)
        if plain is not None and "{}" not in path:
            return Found(plain, None)
        parts = path.split("/")  # "", "v1", family, id, verb
        if len(parts) in (4, 5) and parts[3]:
            shape = "/".join([*parts[:3], "{}", *parts[4:]])
            if (of_one := self._by_shape.get(shape)) is not None:
                return Found(of_one, parts[3])
        return None
