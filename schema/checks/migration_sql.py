"""Reads from the migrations' SQL what they make: tables, views, indexes, functions, triggers, constraints."""

import re
from pathlib import Path

_NAMED = re.compile(
    r"^(CREATE|DROP)\s+(?:UNIQUE\s+)?(TABLE|VIEW|INDEX|FUNCTION|TRIGGER)\s+"
    r"(?:CONCURRENTLY\s+)?(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(\w+)",
    re.M,
)
_CONSTRAINT = re.compile(r"^[^-\n]*?\b(DROP\s+)?CONSTRAINT\s+(?:IF\s+EXISTS\s+)?(\w+)", re.M)


def names(folder: Path) -> list[str]:
    """The migrations of a folder, in their order."""
    return sorted(file.stem for file in folder.glob("*.sql") if not file.name.endswith(".rollback.sql"))


def made(folder: Path, migrations: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What the migrations make and don't drop again: the migration, the kind, the name."""
    found: dict[tuple[str, str], str] = {}
    for name in migrations:
        for verb, kind, target in _NAMED.findall((folder / f"{name}.sql").read_text()):
            if verb == "CREATE":
                found[kind, target] = name
            else:
                found.pop((kind, target), None)
    return list(found.values()), [kind for kind, _ in found], [target for _, target in found]


def constraints(folder: Path, migrations: list[str]) -> tuple[list[str], list[str]]:
    """The constraints that the migrations name and don't drop again: the migration, the name."""
    found: dict[str, str] = {}
    for name in migrations:
        for dropped, constraint in _CONSTRAINT.findall((folder / f"{name}.sql").read_text()):
            if dropped:
                found.pop(constraint, None)
            else:
                found.setdefault(constraint, name)
    return list(found.values()), list(found)
