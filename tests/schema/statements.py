"""Every SQL statement of shared/store, found by itself, with what each of its parameters stands for."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from shared import store

FOREIGN: Final = {"imports.source"}  # modules whose statements are for another system's database
_STATEMENT: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s")
_PARENTHESES: Final = re.compile(r"\([^()]*\)")
_TABLE: Final = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO) (?!unnest\b|LATERAL\b)([a-z_]+)")
_INSERTED: Final = re.compile(r"INSERT INTO \w+(?: AS \w+)? \(([^)]*)\)\s*(?:VALUES \(|SELECT )(.*)", re.S)
_ARRAYS: Final = re.compile(r"unnest\(([^()]*)\)\)?(?:\s+WITH ORDINALITY)?(?:\s+AS \w+ \(([^)]*)\))?")
_ROWS: Final = re.compile(r"\(([\w.,\s]+)\) IN \(\s*SELECT \* FROM unnest\(([^()]*)\)\)")
_PLACE: Final = re.compile(r"\$(\d+)")
_COMPARED: Final = (
    re.compile(r"(\w+)\s*(?:=|<>|<=|>=|<|>|IS NOT DISTINCT FROM)\s*(?:ANY\()?\$(\d+)"),
    re.compile(r"(\w+) BETWEEN \$\d+ AND \$(\d+)"),
    re.compile(r"(\w+) BETWEEN \$(\d+)"),
)
_NAMED: Final = re.compile(r"\$(\d+)::\w+ AS (\w+)")
_LIMIT: Final = re.compile(r"LIMIT \$(\d+)")


@dataclass(frozen=True)
class Statement:
    """One statement of the store. `name` is `module.CONSTANT`, or `module.CONSTANT[key]` in a collection; a module of a
    package has the package's name before it."""

    name: str
    sql: str

    @property
    def table(self) -> str:
        """The table that it is about: the first outside any parentheses, else the first of all."""
        outside, nested = self.sql, ""
        while outside != nested:
            outside, nested = _PARENTHESES.sub("", outside), outside
        found = _TABLE.search(outside) or _TABLE.search(self.sql)
        return found[1] if found else ""

    @property
    def inserts(self) -> bool:
        return "INSERT INTO" in self.sql

    def meanings(self) -> dict[int, str]:
        """Parameter → the column that it is compared with or written to, `limit`, or nothing where neither is plain."""
        named: dict[int, str] = {}
        for pattern in _COMPARED:
            for column, place in pattern.findall(self.sql):
                named.setdefault(int(place), column)
        for place, column in _NAMED.findall(self.sql):
            named[int(place)] = column
        for place in _LIMIT.findall(self.sql):
            named[int(place)] = "limit"
        inserted = _INSERTED.search(self.sql)
        columns = _list(inserted[1]) if inserted else []
        if inserted:
            named.update(_pairs(columns, _list(inserted[2])))
        for arrays, aliases in _ARRAYS.findall(self.sql):
            named.update(_pairs(_list(aliases) or columns, _list(arrays)))
        for row, arrays in _ROWS.findall(self.sql):
            named.update(_pairs(_list(row), _list(arrays)))
        return named


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _pairs(columns: Sequence[str], values: Sequence[str]) -> dict[int, str]:
    pairs = zip(columns, values, strict=False)
    return {int(found[1]): column.split(".")[-1] for column, value in pairs if (found := _PLACE.match(value))}


def every_statement() -> list[Statement]:
    """All SQL that shared/store holds in constants, alone or in collections, in order of their names."""
    found: dict[str, Statement] = {}
    for module in pkgutil.walk_packages(store.__path__, f"{store.__name__}."):
        module_name = module.name.removeprefix(f"{store.__name__}.")
        if module_name in FOREIGN:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            for where, sql in _texts(value):
                if _STATEMENT.match(sql):
                    statement = Statement(f"{module_name}.{name}{where}", sql)
                    found.setdefault(statement.sql, statement)  # a constant may be imported by another module
    return sorted(found.values(), key=lambda statement: statement.name)


def _texts(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            for where, text in _texts(one):
                yield f"[{key}]{where}", text
    elif isinstance(value, tuple | list):
        for key, one in enumerate(cast("Sequence[object]", value)):
            for where, text in _texts(one):
                yield f"[{key}]{where}", text
